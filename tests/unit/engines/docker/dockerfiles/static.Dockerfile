# context tool-caddy: /gateway/bin
FROM debian:bookworm-slim
COPY --from=tool-caddy caddy /opt/moorage/bin/caddy
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /home/app && chown 1000:1000 /app /home/app"]
USER 1000:1000
WORKDIR "/app"
COPY --chown=1000:1000 [".","/app/"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","exec env SITE=\"$PWD\" caddy run --adapter caddyfile --config - <<'CADDYFILE'\n{\n\tadmin off\n\tauto_https off\n\tpersist_config off\n\tlog {\n\t\tlevel ERROR\n\t}\n\tservers {\n\t\tprotocols h1\n\t}\n}\nhttp://:{$PORT} {\n\tbind tcp4/0.0.0.0\n\troot {env.SITE}\n\tencode\n\t@hidden {\n\t\tpath */.*\n\t\tnot path /.well-known/*\n\t}\n\terror @hidden 404\n\ttry_files {path} {path}.html\n\tfile_server\n\thandle_errors 404 {\n\t\trewrite /404.html\n\t\tfile_server\n\t}\n}\nCADDYFILE"]
