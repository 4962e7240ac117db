# Training on GPUs: docker build --file docker/train.Dockerfile --tag trawl-train .
FROM nvidia/cuda:13.2.1-devel-ubuntu24.04
COPY docker/install-system.sh docker/install-pinned-sources.sh /install/
RUN /install/install-system.sh
WORKDIR /trawl
COPY . .
RUN make .venv/ready && /install/install-pinned-sources.sh .venv
ENV PATH=/trawl/.venv/bin:$PATH
ENTRYPOINT ["trawl"]
