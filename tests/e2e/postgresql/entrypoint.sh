# What the chart needs of the official image's entrypoint: PGDATA, POSTGRES_PASSWORD, and scripts that run once.
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" >/tmp/password
    initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 >/dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*.sh; do . "$script"; done
    pg_ctl --wait --mode=fast stop
fi
exec postgres -c listen_addresses='*' "$@"
