# What `make test-valkey` runs on where no valkey-server is installed.
FROM debian:trixie-slim
RUN apt-get update && apt-get install --yes --no-install-recommends valkey-server \
    && rm -rf /var/lib/apt/lists/* && ln -s valkey-server /usr/bin/redis-server
