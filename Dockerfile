# selbench on a CPU: docker build -t selbench . && docker run --rm -v "$PWD:/work" selbench run
FROM python:3.13-slim
COPY . /src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu /src && rm -rf /src
RUN useradd --create-home selbench
USER selbench
ENV SELBENCH_HOME=/home/selbench/.cache/selbench
WORKDIR /work
ENTRYPOINT ["selbench"]
CMD ["--help"]
