# SPDX-License-Identifier: Apache-2.0
# Written by conf/flags.py from --help: do not edit.
# bash: source it, or install it as share/bash-completion/completions/etcd-envelope.

# Sets cur and prev, with --name=value taken apart as --name value is.
_etcd_envelope_words() {
    cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
}

_etcd_envelope() {
    local cur prev command=serve word
    COMPREPLY=()
    _etcd_envelope_words
    if ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[1]} != -* ]]; then
        command=${COMP_WORDS[1]}
    fi
    if ((COMP_CWORD == 1)) && [[ $cur != -* ]]; then
        COMPREPLY=($(compgen -W 'serve encrypt decrypt inspect check verify reencrypt quarantine status version help' -- "$cur"))
        return
    fi
    case $prev in
    --log-level) COMPREPLY=($(compgen -W 'debug info warn error' -- "$cur")) ;;
    --log-format) COMPREPLY=($(compgen -W 'text json' -- "$cur")) ;;
    --input) COMPREPLY=($(compgen -W 'raw base64 hex' -- "$cur")) ;;
    --output) COMPREPLY=($(compgen -W 'text json' -- "$cur")) ;;
    --list) COMPREPLY=($(compgen -W 'unreadable plaintext stale' -- "$cur")) ;;
    --cert-file | --key-file | --trusted-ca-file | --client-crl-file | --etcd-cafile | --etcd-certfile | --etcd-keyfile | --etcd-password-file | --encryption-provider-config | --config-file | --snapshot | --cafile | --certfile | --keyfile) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    --listen-client-urls | --advertise-client-urls | --allowed-client-names | --listen-metrics-urls | --etcd-servers | --etcd-user | --etcd-prefix | --resource-prefix | --protect-prefix | --converge | --converge-after | --converge-key | --converge-max-db-size | --max-request-bytes | --memory-limit | --connection-memory-limit | --stream-memory-limit | --max-connections | --max-concurrent-streams | --stream-threshold | --stall-timeout | --shutdown-timeout | --workers | --user | --key | --export | --resource | --rate | --byte-rate | --parallel | --namespace | --max-db-size | --max | --unreadable-limit | --quarantine-prefix | --metrics-urls) ;;
    *)
        case $command in
        serve) word='--listen-client-urls --advertise-client-urls --cert-file --key-file --trusted-ca-file --client-crl-file --client-cert-auth --allowed-client-names --listen-metrics-urls --insecure-listen --etcd-servers --etcd-cafile --etcd-certfile --etcd-keyfile --etcd-user --etcd-password-file --etcd-prefix --encryption-provider-config --encryption-provider-config-automatic-reload --resource-prefix --protect-prefix --allow-identity-writes --allow-unprotect --allow-kms-v1-writes --kms-v1-cbc-reads --allow-unlocked-memory --allow-drop-keys --converge --converge-after --converge-key --converge-max-db-size --max-request-bytes --memory-limit --connection-memory-limit --stream-memory-limit --max-connections --max-concurrent-streams --stream-threshold --stall-timeout --shutdown-timeout --workers --user --drop-privileges --landlock --seccomp --seccomp-log --require-containment --log-level --log-format --config-file --print-config --help' ;;
        encrypt) word='--key --encryption-provider-config --etcd-prefix --resource-prefix --protect-prefix --allow-identity-writes --allow-unlocked-memory --log-level --log-format --config-file --help' ;;
        decrypt) word='--key --input --snapshot --skip-hash-check --encryption-provider-config --etcd-prefix --resource-prefix --protect-prefix --allow-identity-writes --allow-unlocked-memory --log-level --log-format --config-file --help' ;;
        inspect) word='--input --output --help' ;;
        check) word='--offline --output --etcd-user --listen-client-urls --advertise-client-urls --cert-file --key-file --trusted-ca-file --client-crl-file --client-cert-auth --allowed-client-names --listen-metrics-urls --insecure-listen --etcd-servers --etcd-cafile --etcd-certfile --etcd-keyfile --etcd-password-file --etcd-prefix --encryption-provider-config --encryption-provider-config-automatic-reload --resource-prefix --protect-prefix --allow-identity-writes --allow-unprotect --allow-kms-v1-writes --kms-v1-cbc-reads --allow-unlocked-memory --allow-drop-keys --converge --converge-after --converge-key --converge-max-db-size --max-request-bytes --memory-limit --connection-memory-limit --stream-memory-limit --max-connections --max-concurrent-streams --stream-threshold --stall-timeout --shutdown-timeout --workers --user --drop-privileges --landlock --seccomp --seccomp-log --require-containment --log-level --log-format --config-file --print-config --help' ;;
        verify) word='--no-open --list --export --resource --output --snapshot --skip-hash-check --encryption-provider-config --etcd-servers --etcd-cafile --etcd-certfile --etcd-keyfile --etcd-user --etcd-password-file --etcd-prefix --resource-prefix --protect-prefix --allow-unlocked-memory --log-level --log-format --config-file --help' ;;
        reencrypt) word='--dry-run --rate --byte-rate --parallel --resource --namespace --include-leased --max-db-size --to-identity --output --encryption-provider-config --etcd-servers --etcd-cafile --etcd-certfile --etcd-keyfile --etcd-user --etcd-password-file --etcd-prefix --resource-prefix --protect-prefix --allow-unlocked-memory --log-level --log-format --config-file --help --allow-kms-v1-writes' ;;
        quarantine) word='--key --yes --restore --list --discard --max --unreadable-limit --include-plaintext --allow-unreadable --quarantine-prefix --output --encryption-provider-config --etcd-servers --etcd-cafile --etcd-certfile --etcd-keyfile --etcd-user --etcd-password-file --etcd-prefix --resource-prefix --protect-prefix --allow-unlocked-memory --log-level --log-format --config-file --help' ;;
        status) word='--metrics-urls --cafile --certfile --keyfile --output --help' ;;
        *) word= ;;
        esac
        COMPREPLY=($(compgen -W "$word" -- "$cur"))
        ;;
    esac
}
complete -F _etcd_envelope etcd-envelope

_etcd_envelope_local_kms() {
    local cur prev
    COMPREPLY=()
    _etcd_envelope_words
    case $prev in
    --log-level) COMPREPLY=($(compgen -W 'debug info warn error' -- "$cur")) ;;
    --log-format) COMPREPLY=($(compgen -W 'text json' -- "$cur")) ;;
    --key-file | --generate-key) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    --listen | --user) ;;
    *) COMPREPLY=($(compgen -W '--listen --key-file --generate-key --allow-unlocked-memory --user --landlock --drop-privileges --seccomp --seccomp-log --require-containment --log-level --log-format --version --help' -- "$cur")) ;;
    esac
}
complete -F _etcd_envelope_local_kms etcd-envelope-local-kms
