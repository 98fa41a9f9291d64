"""The first process of an app's container: a shell that passes on the signal to end.

Kubernetes sends SIGTERM to the first process alone. A shell that runs an app neither passes it on
nor, as the first process, ends by it: the app would learn nothing, and be killed after its time.
"""

from collections.abc import Sequence

# Shells get the signal only if there is nothing else, as in `host.kernel.signals`. `wait` returns
# when the trap has run as well; then the app is still there.
_SCRIPT = """\
pass_on() {
  shells= others=
  for process in /proc/[0-9]*; do
    pid=${process#/proc/}
    [ "$pid" = "$$" ] && continue
    { read -r name < "$process/comm"; } 2>/dev/null || continue
    case $name in
      sh | bash | dash) shells="$shells $pid" ;;
      *) others="$others $pid" ;;
    esac
  done
  kill -TERM ${others:-$shells} 2>/dev/null
}
trap pass_on TERM
/bin/sh -c "$1" &
app=$!
while :; do
  wait "$app"
  code=$?
  kill -0 "$app" 2>/dev/null || exit "$code"
done
"""


def first_process(start: str) -> Sequence[str]:
    """Returns the command that runs a plan's command, and ends with its exit code."""
    return ("/bin/sh", "-c", _SCRIPT, "app", start)
