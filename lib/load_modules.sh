#!/bin/bash
# load_modules.sh FILE LINE...: `module load` of each line, and what that has made of the environment in
# FILE, to be sourced. $ORCH_OURS: names of variables that are not to be in it. The last line of FILE says
# how far this came: "# none" if there is no `module`, "# load LINE", or "# all".
#
# What a site wrote (profile scripts, module functions, modulefiles) runs here as it expects to: in a
# shell without options, in which there is nothing of ours. It may read unset variables, go on after
# errors, print, change folder, options and traps, define functions, leave processes, end the shell.
orch_file=$1
orch_before=$(compgen -e)
shift

# The shell as it was: a profile script may leave options that module functions stumble over.
orch_restore() {
  set +eux +o pipefail +C +f
  trap - DEBUG ERR RETURN EXIT
  IFS=$' \t\n'
}

# A batch shell is no login shell, so that the command may have to be fetched first.
if ! type module >/dev/null 2>&1 && [ -r /etc/profile ]; then . /etc/profile; fi
orch_restore
if ! type module >/dev/null 2>&1; then
  echo '# none' >>"$orch_file"
  exit 1
fi
for orch_line in "$@"; do
  echo "# load $orch_line" >>"$orch_file"
  read -ra orch_words <<<"$orch_line"
  module load "${orch_words[@]}" || exit 1
  orch_restore
done

for orch_name in $orch_before; do
  compgen -e -X "!$orch_name" >/dev/null || echo "unset -v $orch_name"
done >>"$orch_file"
read -ra orch_ours <<<"$ORCH_OURS"
export -n ORCH_OURS IFS PWD OLDPWD SHLVL _ "${orch_ours[@]}"
set -o posix # "export", where bash's own "declare" would make variables of a function
export -p >>"$orch_file"
echo '# all' >>"$orch_file"
