# Valkey of Debian 13 with the libraries that it needs, which other Linux distributions lack:
#   docker build --output FOLDER - <tests/support/valkey.Dockerfile
FROM debian:trixie-slim AS debian
RUN apt-get update && apt-get install --yes --no-install-recommends valkey-server
WORKDIR /valkey/lib
RUN cp /usr/bin/valkey-server $(ldd /usr/bin/valkey-server | grep --only-matching '/[^ ]*') . \
    && { echo '#!/bin/sh'; \
         echo 'lib=$(dirname "$(readlink -f "$0")")/lib'; \
         echo 'exec "$lib"/ld-linux-* --library-path "$lib" "$lib/valkey-server" "$@"'; \
       } >../valkey-server && chmod +x ../valkey-server

FROM scratch
COPY --from=debian /valkey /
