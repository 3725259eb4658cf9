#!/bin/sh
# Backup and restore of what lensmesh keeps in a Qdrant server, by snapshots over its REST API. Needs curl and jq.
#
#   deploy/backup/qdrant.sh backup FOLDER     writes one file for each collection
#   deploy/backup/qdrant.sh restore FOLDER    puts them back, in place of what is there
#
# QDRANT_REST     the server's REST address; http://localhost:6333 unless set
# QDRANT_API_KEY  its key, if it asks for one
# PREFIX          as in the store URL; lensmesh unless set
set -eu

rest=${QDRANT_REST:-http://localhost:6333}
prefix=${PREFIX:-lensmesh}

call() {
    # The key goes through a pipe: a command line can be read by everybody on the machine.
    {
        printf 'silent\nshow-error\nfail-with-body\n'
        [ -z "${QDRANT_API_KEY:-}" ] || printf 'header = "api-key: %s"\n' "$QDRANT_API_KEY"
    } | curl --config - "$@"
}

backup() {
    mkdir -p "$1"
    # The collection of collections first: one that is made meanwhile is then not in it, and harmless.
    names=$(call "$rest/collections" | jq -r --arg prefix "$prefix" '
        [.result.collections[].name | select(. == $prefix or startswith($prefix + "."))] | sort_by(. != $prefix) | .[]')
    [ -n "$names" ] || { echo "there is nothing of $prefix at $rest" >&2; exit 1; }
    for name in $names; do
        made=$(call --request POST "$rest/collections/$name/snapshots?wait=true")
        snapshot=$(printf '%s' "$made" | jq -r .result.name)
        checksum=$(printf '%s' "$made" | jq -r '.result.checksum // empty')
        part="$1/$name.snapshot.part"
        trap 'rm -f "$part"' EXIT
        call --output "$part" "$rest/collections/$name/snapshots/$snapshot"
        [ -z "$checksum" ] || printf '%s  %s\n' "$checksum" "$part" | sha256sum --check --quiet -
        # Under its final name only when it is complete.
        mv "$part" "$1/$name.snapshot"
        call --request DELETE "$rest/collections/$name/snapshots/$snapshot?wait=true" >/dev/null
        echo "$name: $(wc -c <"$1/$name.snapshot") bytes"
    done
}

restore() {
    [ -f "$1/$prefix.snapshot" ] || { echo "there is no $1/$prefix.snapshot: name a folder that backup wrote" >&2; exit 1; }
    # The collection of collections last: what it names is then there.
    for file in "$1/$prefix".*.snapshot "$1/$prefix.snapshot"; do
        [ -f "$file" ] || continue
        name=$(basename "$file" .snapshot)
        call --request POST --form "snapshot=@$file" \
            "$rest/collections/$name/snapshots/upload?priority=snapshot&wait=true" >/dev/null
        echo "$name"
    done
}

case "${1:-} ${2:+folder}" in
"backup folder") backup "$2" ;;
"restore folder") restore "$2" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
