# context tool-uv: /gateway/bin
FROM python:3.13-bookworm
COPY --from=tool-uv uv /opt/moorage/bin/uv
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /home/app && chown 1000:1000 /app /home/app"]
USER 1000:1000
WORKDIR "/app"
COPY --chown=1000:1000 ["requirements.txt","/app/requirements.txt"]
RUN --mount=type=secret,id=variables,uid=1000,target=/run/moorage/install ["/bin/sh","-c","set -a && . /run/moorage/install && set +a && exec /bin/sh -c \"$0\"","uv venv -q --clear --python python3.13 .venv && uv pip install -q --compile-bytecode -r requirements.txt"]
COPY --chown=1000:1000 [".","/app/"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","exec .venv/bin/uvicorn --host 0.0.0.0 --port $PORT main:app"]
