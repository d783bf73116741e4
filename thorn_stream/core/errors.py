"""Every error thorn_stream raises, by whose fault it is.

    ThornError
     +-- ConfigurationError      the operator's: settings, subscriber files      exit 2
     |    +-- InvalidPattern     a glob pattern that cannot be used
     |    +-- InvalidSubscriber  a subscriber that cannot be used
     +-- UsageError              a command used wrongly                          exit 2
     +-- ProducerError           the caller's, who publishes events              exit 1
     |    +-- EventNotSent       Kafka has not acknowledged it
     +-- SecurityError           a validator refused a recipient                 exit 1
     +-- InvalidSignature        a received request was not signed as it should   exit 1
     +-- KafkaError              Kafka's or the way to it                        exit 1
     |    +-- KafkaUnreachable   no broker answered
     |    +-- KafkaRefused       login, permission or encryption refused
     |    +-- TopicMissing       a topic that is needed does not exist
     +-- LocalError              this machine's: a port taken, an unreadable file exit 1

A receiver's failures are not errors: they are returned as an `Outcome`. What cannot be decoded
is not an error either: it is an `Undecodable`. Anything else that is raised is a bug of ours.
"""

__all__ = [
    "ConfigurationError",
    "EventNotSent",
    "InvalidPattern",
    "InvalidSignature",
    "InvalidSubscriber",
    "KafkaError",
    "KafkaRefused",
    "KafkaUnreachable",
    "LocalError",
    "ProducerError",
    "SecurityError",
    "ThornError",
    "TopicMissing",
    "UsageError",
]


class ThornError(Exception):
    """Root of them all. Its text says what is wrong, where, and what to do, in one line."""

    exit_code = 1


class ConfigurationError(ThornError):
    exit_code = 2


class InvalidPattern(ConfigurationError, ValueError):
    pass


class InvalidSubscriber(ConfigurationError, ValueError):
    pass


class UsageError(ThornError):
    exit_code = 2


class ProducerError(ThornError):
    pass


class EventNotSent(ProducerError):
    pass


class SecurityError(ThornError):
    """Raised by a validator to refuse a recipient; its text is the reason."""


class InvalidSignature(ThornError, ValueError):
    """Raised by `verify`; its text says what is wrong, never what would be right."""


class KafkaError(ThornError):
    pass


class KafkaUnreachable(KafkaError):
    pass


class KafkaRefused(KafkaError):
    pass


class TopicMissing(KafkaError):
    pass


class LocalError(ThornError):
    pass
