# Postgres with Patroni, which decides who leads (infra/k8s/postgres).
# Built from the top folder: docker build -f infra/docker/postgres.Dockerfile .
# A release gives POSTGRES_IMAGE with its digest (docs/images.md).
ARG POSTGRES_IMAGE=postgres:18.1
# hadolint ignore=DL3006
FROM ${POSTGRES_IMAGE}
# The version is the one of the base's release; the base's digest says which packages there are.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache
COPY infra/docker/patroni/requirements.txt /tmp/requirements.txt
RUN python3 -m venv /opt/patroni \
    && /opt/patroni/bin/pip install --no-cache-dir --no-compile --disable-pip-version-check --require-hashes -r /tmp/requirements.txt \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/patroni \
    && rm /tmp/requirements.txt
USER 999:999
# Patroni hands the lead over before it ends.
STOPSIGNAL SIGTERM
EXPOSE 5432 8008
ENTRYPOINT ["/opt/patroni/bin/patroni"]
CMD ["/etc/patroni/patroni.yml"]
