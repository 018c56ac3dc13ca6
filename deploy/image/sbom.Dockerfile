# The bill of materials of an image, taken from the image itself: what was left out of it is in no bill. The result holds
# the file and nothing else; deploy/scripts/build-image.sh --sbom FOLDER builds it and writes it there.
ARG IMAGE=bandicoot

# hadolint ignore=DL3006
FROM ${IMAGE} AS bill
# hadolint ignore=DL3002
USER 0
WORKDIR /build
COPY pyproject.toml deploy/image/requirements-sbom.txt deploy/image/sbom.py ./
# By the base's Python: the image's own environment has no pip, and gets nothing here.
ENV PATH=/usr/local/bin:/usr/bin:/bin
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/sbom \
    && python3 -m pip --python /opt/sbom/bin/python install --no-cache-dir --requirement requirements-sbom.txt \
    && /opt/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
        --spec-version 1.6 --output-format JSON --output-file packages.json /opt/bandicoot/bin/python \
    && /opt/sbom/bin/python sbom.py packages.json > bandicoot.cdx.json

FROM scratch
COPY --from=bill /build/bandicoot.cdx.json /
