# In: a message.  Out: one line for a person, on stderr.  Rule: stdout is left to results that another program reads.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

# die SENTENCE: the sentence says what to do; no traceback comes before it
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# nothing ends in silence: what no sentence foresaw is told with its line; what we called has told it already
set -E
trap 'unforeseen $? "$BASH_COMMAND" "${BASH_SOURCE[0]}" "$LINENO"' ERR
unforeseen() {
  case $2 in *"\$HERE/"* | *"\$IMPORT"* | return* | exit*) return "$1" ;; esac
  printf 'error: %s line %s: this failed (exit code %s): %s\n' "$3" "$4" "$1" "$2" >&2
}

# seconds since an earlier $EPOCHREALTIME, with one decimal
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }

# progress WHAT LOG COMMAND...: runs the command with its output in LOG, and says every 15 s that it still does
progress() {
  local what=$1 log=$2 from=$EPOCHREALTIME beat code=0
  shift 2
  say "  $what …"
  heartbeat "$what" "$log" & beat=$!
  "$@" >"$log" 2>&1 || code=$?
  kill "$beat" 2>/dev/null && wait "$beat" 2>/dev/null || true
  if [ "$code" -ne 0 ]; then
    tail -n 25 "$log" >&2
    die "$what failed (exit code $code); the whole output is in $log"
  fi
  say "  $what: done in $(since "$from") s"
}

# a `read` that waits, not a `sleep`: it leaves no child behind that would hold our output open
heartbeat() {
  local from=$EPOCHREALTIME never
  exec {never}<> <(:)
  while read -rt 15 -u "$never" || kill -0 $$ 2>/dev/null; do
    say "  … $1, $(since "$from") s so far ($(wc -l <"$2") lines in $2)"
  done
}
