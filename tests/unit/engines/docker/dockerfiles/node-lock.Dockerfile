# context toolchain-npm: /store/npm/11.19.1
FROM node:26.10.0-bookworm
COPY --from=toolchain-npm . /opt/moorage/toolchains/npm
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/toolchains/npm/bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /home/app && chown 1000:1000 /app /home/app"]
USER 1000:1000
WORKDIR "/app"
COPY --chown=1000:1000 ["package-lock.json","/app/package-lock.json"]
COPY --chown=1000:1000 ["package.json","/app/package.json"]
RUN --mount=type=secret,id=variables,uid=1000,target=/run/moorage/install ["/bin/sh","-c","set -a && . /run/moorage/install && set +a && exec /bin/sh -c \"$0\"","npm ci --prefer-offline --no-audit --no-fund --loglevel=error || { npm ci --dry-run 2>&1 | grep -q 'are in sync' && echo 'The lock file is out of step with package.json: npm install instead.' && npm install --no-audit --no-fund --loglevel=error; }"]
COPY --chown=1000:1000 [".","/app/"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","exec node index.js"]
