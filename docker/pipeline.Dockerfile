# The corpus pipeline: docker build --file docker/pipeline.Dockerfile --tag trawl-pipeline .
FROM debian:12-slim
COPY docker/install-system.sh /install/
RUN /install/install-system.sh
WORKDIR /trawl
COPY . .
RUN make .venv/ready
ENV PATH=/trawl/.venv/bin:$PATH
ENTRYPOINT ["trawl"]
