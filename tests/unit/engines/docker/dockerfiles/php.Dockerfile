FROM php:8.4-cli-bookworm
COPY --from=composer:2.8.11 /usr/bin/composer /usr/bin/composer
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /home/app && chown 1000:1000 /app /home/app"]
USER 1000:1000
WORKDIR "/app"
COPY --chown=1000:1000 [".","/app/"]
RUN --mount=type=secret,id=variables,uid=1000,target=/run/moorage/install ["/bin/sh","-c","set -a && . /run/moorage/install && set +a && exec /bin/sh -c \"$0\"","composer install --no-dev --no-interaction --optimize-autoloader"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","cat > \"$TMPDIR/router.php\" <<'ROUTER'\n<?php\n$path = rawurldecode(parse_url($_SERVER[\"REQUEST_URI\"], PHP_URL_PATH) ?: \"\");\nif (preg_match(\"#/[.](?!well-known/)#\", $path)) {\n    http_response_code(404);\n    return true;\n}\nreturn false;\nROUTER\nexec php -d display_errors=0 -d log_errors=1 -S 0.0.0.0:$PORT -t public \"$TMPDIR/router.php\""]
