#!/usr/bin/env bash
# Generates once, then again whenever a proto or the generation's configuration has changed, until Ctrl-C.
source "$(dirname "$0")/env.sh"
cd "$ROOT"

fingerprint() {
    find pyairtable buf.yaml buf.gen.yaml buf.gen.validate.yaml openapi.base.yaml -type f -exec cksum {} + | LC_ALL=C sort
}

seen=
while true; do
    now=$(fingerprint)
    if [[ $now != "$seen" ]]; then
        seen=$now
        if scripts/generate.sh; then
            echo "$(date +%T) generated"
        else
            echo "$(date +%T) failed; waiting for the next change" >&2
        fi
    fi
    sleep 0.5
done
