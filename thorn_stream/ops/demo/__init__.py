"""`thorn-stream demo`: the whole thing in one process tree, every event accounted for.

cast        the five receivers, and the events that are sent
matching    which event goes to whom, found out by a slow matcher of the demo's own
account     what was matched, what came, what died: do they add up?
figures     percentiles, and numbers as a reader likes them
report      what it came to: the verdict, JSON
view        all of it as a table, a live one or plain lines
receivers   five HTTP servers on loopback
dispatcher  the dispatcher process: its configuration, start, health and end
child       what that process runs: a dispatcher that does not outlive the demo
kafka       events out, dead letters in, topics made and cleared away
course      the demo from its first line to its last
"""
