{{- define "thorn.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "thorn.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "thorn.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "thorn.selector" -}}
app.kubernetes.io/name: {{ include "thorn.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "thorn.common" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: thorn-stream
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "thorn.labels" -}}
{{ include "thorn.selector" . }}
app.kubernetes.io/component: dispatcher
{{ include "thorn.common" . }}
{{- end }}

{{/* Of what is no dispatcher: the Deployment's selector must not find it. */}}
{{- define "thorn.jobLabels" -}}
app.kubernetes.io/name: {{ include "thorn.name" . }}-job
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "thorn.common" . }}
{{- end }}

{{- define "thorn.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- define "thorn.serviceAccount" -}}
{{- if .Values.serviceAccount.enabled }}
{{- default (include "thorn.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Helm merges the chart's own bootstrap_servers with the user's bootstrap.servers: these win. */}}
{{- define "thorn.settings" -}}
{{- $config := deepCopy .Values.config }}
{{- with $config.kafka }}
{{- if hasKey . "bootstrap.servers" }}{{ $_ := unset . "bootstrap_servers" }}{{ end }}
{{- end -}}
# Made by the chart from its value `config`.
{{ toYaml $config }}
{{- end }}

{{- define "thorn.group" -}}
{{- .Values.config.group | default "thorn" }}
{{- end }}

{{/* Kafka's address: `_` and `.` are the same in the settings' keys. */}}
{{- define "thorn.bootstrap" -}}
{{- $kafka := .Values.config.kafka | default dict }}
{{- get $kafka "bootstrap.servers" | default (get $kafka "bootstrap_servers") | default "localhost:9092" }}
{{- end }}

{{- define "thorn.port" -}}
{{- dig "http" "port" 9464 .Values.config | int }}
{{- end }}

{{- define "thorn.subscribersMap" -}}
{{- .Values.subscribers.existingConfigMap | default (printf "%s-subscribers" (include "thorn.fullname" .)) }}
{{- end }}

{{- define "thorn.grace" -}}
{{- $drain := dig "drain_timeout" 25 .Values.config | float64 }}
{{- $grace := .Values.terminationGracePeriodSeconds }}
{{- if kindIs "invalid" $grace }}
{{- add (ceil $drain) 20 }}
{{- else if le (float64 $grace) $drain }}
{{- fail (printf "terminationGracePeriodSeconds: %v is not above config.drain_timeout (%v): deliveries under way would be cut off" $grace $drain) }}
{{- else }}
{{- int $grace }}
{{- end }}
{{- end }}

{{/* What only both values together tell. */}}
{{- define "thorn.refuse" -}}
{{- if and .Values.hpa.enabled .Values.keda.enabled }}
{{- fail "hpa.enabled and keda.enabled: choose one, each would undo the other" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled: choose one, everything would be counted twice" }}
{{- end }}
{{- range tuple "hpa" "keda" }}
{{- $scaler := get $.Values . }}
{{- if and $scaler.enabled (gt (int $scaler.minReplicas) (int $scaler.maxReplicas)) }}
{{- fail (printf "%s.minReplicas is above %s.maxReplicas" . .) }}
{{- end }}
{{- end }}
{{- if and .Values.subscribers.files .Values.subscribers.existingConfigMap }}
{{- fail "subscribers.files and subscribers.existingConfigMap: choose one" }}
{{- end }}
{{- if and .Values.test.url .Values.subscribers.existingConfigMap }}
{{- fail "test.url needs the chart's own subscribers: with subscribers.existingConfigMap write a subscriber for test.event there" }}
{{- end }}
{{- if eq (include "thorn.port" .) "0" }}
{{- fail "config.http.port: 0 is any free port, and probes need to know it" }}
{{- end }}
{{- if eq (include "thorn.bootstrap" .) "embedded" }}
{{- fail "config.kafka.bootstrap_servers: the embedded broker keeps nothing, and each pod would have its own" }}
{{- end }}
{{- end }}

{{/* What the dispatcher, the Job and the test have in common. */}}
{{- define "thorn.environment" -}}
{{- with .Values.extraEnv }}
env:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "thorn.placement" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/* The matchers by which alerts find the series of this release. */}}
{{- define "thorn.matchers" -}}
namespace="{{ .Release.Namespace }}",job="{{ include "thorn.fullname" . }}"
{{- end }}

{{- define "thorn.relabelings" -}}
relabelings:
  - targetLabel: job
    replacement: {{ include "thorn.fullname" . }}
{{- end }}
