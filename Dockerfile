# A target for each image: producer, aggregator, averages-consumer, hourglassctl (`hourglass`, the
# operator's command). `make images` builds them all. Packages are layers that the images share;
# those for arrays and for the warehouse lie on top where they are needed.
ARG PYTHON_IMAGE=python:3.13-slim

FROM ${PYTHON_IMAGE} AS packages
WORKDIR /locks
COPY requirements.lock requirements-arrays.lock requirements-warehouse.lock ./
# Nothing is compiled but bytecode, so every platform that has the wheels can have the image.
# These files never change in an image: Python need not look whether their bytecode is stale.
RUN --mount=type=cache,target=/root/.cache/pip \
    install="python -m pip install --disable-pip-version-check --root-user-action ignore \
      --no-compile --no-deps --only-binary :all: --require-hashes" \
 && $install --target /service/app --requirement requirements.lock \
 && $install --target /arrays/app --requirement requirements-arrays.lock \
 && $install --target /warehouse/app --requirement requirements-warehouse.lock \
 && rm -rf /*/app/bin \
 && find /arrays \( -name tests -o -name conftest.py -o -name include -o -name f2py -o -name '*.a' \) \
      -prune -exec rm -rf {} + \
 && for part in service arrays warehouse; do \
      python -m compileall -q --invalidation-mode unchecked-hash -s /$part -p / /$part/app; \
    done \
 && mkdir --mode 1777 /warehouse/data

FROM ${PYTHON_IMAGE} AS source
COPY services /app
# Readable by any user, whatever the checkout's modes; the same bytecode, whatever its times.
RUN chmod -R u=rwX,go=rX /app \
 && python -m compileall -q --invalidation-mode checked-hash /app

FROM ${PYTHON_IMAGE} AS service
# An image is replaced, never added to: what could install packages goes.
RUN find /usr -regextype posix-extended \
      -regex '.*/(pip|pip[-0-9][^/]*|setuptools[^/]*|wheel|wheel-[^/]*|pkg_resources|ensurepip)' \
      -prune -exec rm -rf {} +
COPY --from=packages /service /
COPY LICENSE /licenses/hourglass/LICENSE
# PYTHONSAFEPATH: nothing is imported from the folder that the process happens to be in.
ENV PYTHONPATH=/app PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
STOPSIGNAL SIGTERM
ARG PYTHON_IMAGE
ARG SOURCE=
ARG REVISION=
ARG VERSION=
ENV HOURGLASS_REVISION=${REVISION} HOURGLASS_VERSION=${VERSION}
LABEL org.opencontainers.image.source=${SOURCE} \
      org.opencontainers.image.revision=${REVISION} \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.base.name=${PYTHON_IMAGE}

FROM service AS arrays
COPY --from=packages /arrays /

FROM service AS warehouse
# Also /data, which any user may write: a place to mount a volume at.
COPY --from=packages /warehouse /

FROM arrays AS producer
COPY --from=source /app/hourglass /app/hourglass
COPY --from=source /app/producer /app/producer
EXPOSE 8080
ENTRYPOINT ["python", "-m", "producer"]

FROM arrays AS aggregator
COPY --from=source /app/hourglass /app/hourglass
COPY --from=source /app/aggregator /app/aggregator
EXPOSE 8080
ENTRYPOINT ["python", "-m", "aggregator"]

FROM warehouse AS averages-consumer
COPY --from=source /app/hourglass /app/hourglass
COPY --from=source /app/averages_consumer /app/averages_consumer
WORKDIR /data
EXPOSE 8080 8081
ENTRYPOINT ["python", "-m", "averages_consumer"]

FROM warehouse AS hourglassctl
COPY --from=packages /arrays /
COPY --from=source /app /app
WORKDIR /data
# A command drains nothing: Ctrl-C's signal ends it, which as process 1 SIGTERM alone would not.
STOPSIGNAL SIGINT
ENTRYPOINT ["python", "-m", "hourglassctl"]
