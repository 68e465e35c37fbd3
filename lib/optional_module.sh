# shellcheck shell=bash
# Sourced with the name of a module, from the project's folder: loads it if there is one. On many
# clusters a recent Python is a module, and a batch shell is no login shell.
MODULE_ENVIRONMENT=$(mktemp)
if ORCH_OURS='' bash lib/load_modules.sh "$MODULE_ENVIRONMENT" "$1" >/dev/null 2>&1 </dev/null &&
  [ "$(tail -n 1 "$MODULE_ENVIRONMENT")" = '# all' ]; then
  # shellcheck source=/dev/null
  . "$MODULE_ENVIRONMENT"
fi
rm -f "$MODULE_ENVIRONMENT"
unset MODULE_ENVIRONMENT
