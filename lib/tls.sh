# shellcheck shell=bash
# The certificate of what a job serves by TLS. Sourced after haproxy.sh, which says what job scripts set.
#
# One authority signs for all deployments of an output directory, so that Prometheus, which watches them all,
# needs one certificate. It signs for nobody else, and nothing but what asks these deployments trusts it. A
# certificate has a name of service and deployment beside addresses: by that the door knows the engines of its own deployment.
#
# Files:
#   deployments/authority.key           key and certificate of the authority; whichever job needs it first makes it
#   deployments/authority.pem           its certificate alone
#   deployments/ID/authority.pem        the same, for who asks that deployment
#   deployments/ID/certificate.sha256   the digest of the client service's certificate
# Keys stay in the job's folder.
# shellcheck disable=SC2034 # what haproxy.sh and job scripts read

AUTHORITY= # its files, without their endings

# run_openssl ARGUMENT...: the host's, else that of the image. What it is told by standard input it reads as a file.
run_openssl() {
  if command -v openssl >/dev/null; then
    openssl "$@"
  else
    ${PROXY_IN[@]+"${PROXY_IN[@]}"} openssl "$@"
  fi
}

# make_key SUBJECT OPTION...: prints a key, and what is asked for; extensions are read from standard input.
make_key() {
  {
    printf '[req]\nprompt = no\ndistinguished_name = who\nx509_extensions = what\n[who]\nCN = %s\n[what]\n' "$1"
    cat
  } | run_openssl req -config /dev/stdin -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
    -keyout /dev/stdout "${@:2}" 2>/dev/null | cat # each opens a file anew, but not a pipe
}

no_certificate() {
  fail "cannot make a certificate on $HOST: openssl is missing there or fails; install it or load its module in the site profile ('modules'), or leave \"tls\" out"
}

# make_authority: if nobody has.
make_authority() {
  local own
  AUTHORITY=$OUTPUT/deployments/authority
  own=$AUTHORITY.$JOB_ID
  if [ ! -s "$AUTHORITY.key" ]; then
    TEMPORARY+=("$own")
    (umask 077 && make_key "deployments of $(id -un)" -x509 -days 3650 >"$own") <<END
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
END
    [ -n "$(certificate_in "$own")" ] || no_certificate
    ln "$own" "$AUTHORITY.key" 2>/dev/null # not if another job was quicker
    rm -f "$own"
  fi
  # Also if it is that of a key which somebody has removed: nobody would trust what this one signs.
  [ "$(cat "$AUTHORITY.pem" 2>/dev/null)" = "$(certificate_in "$AUTHORITY.key")" ] ||
    write_file "$AUTHORITY.pem" "$(certificate_in "$AUTHORITY.key")"
}

certificate_in() { sed -n '/BEGIN CERTIFICATE-/,/END CERTIFICATE-/p' "$1"; }

# name_in_certificate SERVICE DEPLOYMENT: prints a name such as hosts have, whatever is in that of the deployment.
name_in_certificate() {
  local digest
  digest=$(printf %s "$2" | sha256sum)
  printf '%s.%s' "$1" "${digest:0:32}"
}

# make_certificate DEPLOYMENT SECONDS: for ADDRESS, this host and the service that this job is of that deployment,
# valid a day longer than so many seconds. Sets CERTIFICATE.
make_certificate() {
  local request=$PROXY_FOLDER/request names=IP:$ADDRESS
  make_authority
  case $ADDRESS in *[!0-9.]*) names=DNS:$ADDRESS ;; esac
  CERTIFICATE=$PROXY_FOLDER/certificate
  (
    umask 077
    make_key "${1:0:64}" -new </dev/null >"$request"
    sed -n '/BEGIN .*PRIVATE KEY/,/END .*PRIVATE KEY/p' "$request" >"$CERTIFICATE"
    # A tunnel's end is called localhost.
    run_openssl x509 -req -in "$request" -CA "$AUTHORITY.key" -CAkey "$AUTHORITY.key" \
      -set_serial "$(date +%s%N)" -days $(($2 / 86400 + 2)) -sha256 -extfile /dev/stdin 2>/dev/null <<END | cat >>"$CERTIFICATE"
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = $names, DNS:$(name_in_certificate "$SERVICE" "$1"), DNS:$HOST, DNS:localhost, IP:127.0.0.1
END
  )
  [ -n "$(certificate_in "$CERTIFICATE")" ] || no_certificate
  (umask 077 && mkdir -p "$OUTPUT/deployments/$1") # tokens may come there later
  write_file "$OUTPUT/deployments/$1/authority.pem" "$(<"$AUTHORITY.pem")"
}

# publish_digest DEPLOYMENT: of CERTIFICATE.
publish_digest() {
  local digest
  digest=$(certificate_in "$CERTIFICATE" | sed '/-----/d' | base64 -d | sha256sum)
  write_file "$OUTPUT/deployments/$1/certificate.sha256" "${digest%% *}"
}
