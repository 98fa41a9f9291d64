# context tool-uv: /gateway/bin
FROM python:3.13-bookworm
COPY --from=tool-uv uv /opt/moorage/bin/uv
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /app/api /home/app && chown 1000:1000 /app /app/api /home/app"]
USER 1000:1000
WORKDIR "/app/api"
COPY --chown=1000:1000 ["api/requirements.txt","/app/api/requirements.txt"]
RUN --mount=type=secret,id=variables,uid=1000,target=/run/moorage/install ["/bin/sh","-c","set -a && . /run/moorage/install && set +a && exec /bin/sh -c \"$0\"","uv venv -q --clear --python python3.13 .venv && uv pip install -q --compile-bytecode -r requirements.txt gunicorn"]
COPY --chown=1000:1000 [".","/app/"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","PATH=\"$PWD/.venv/bin:$PWD/node_modules/.bin:$PATH\"\nexec gunicorn --bind 0.0.0.0:$PORT app:app"]
