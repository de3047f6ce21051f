# PgBouncer as Debian packages it, and nothing else. Built from the top folder: docker build -f infra/docker/pgbouncer.Dockerfile .
# A release gives DEBIAN_IMAGE with its digest (docs/images.md).
ARG DEBIAN_IMAGE=debian:13.1-slim
# hadolint ignore=DL3006
FROM ${DEBIAN_IMAGE}
# The version is the one of the base's release; the base's digest says which packages there are.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends pgbouncer \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/cache/ldconfig/aux-cache /etc/pgbouncer
USER 10002:10002
# Transactions that are under way end first.
STOPSIGNAL SIGINT
EXPOSE 6432
ENTRYPOINT ["/usr/sbin/pgbouncer"]
CMD ["/etc/pgbouncer/pgbouncer.ini"]
