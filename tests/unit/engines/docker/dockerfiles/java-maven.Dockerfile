FROM eclipse-temurin:21-jdk
COPY --from=maven:3.9.11-eclipse-temurin-21 /usr/share/maven /usr/share/maven
ENV HOME=/home/app USER=app LANG=C.UTF-8 TMPDIR=/tmp PATH=/app/.venv/bin:/app/node_modules/.bin:/opt/moorage/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin:/usr/local/cargo/bin:/opt/java/openjdk/bin:/usr/share/maven/bin:/opt/gradle/bin
RUN ["/bin/sh","-c","mkdir -p /app /home/app && chown 1000:1000 /app /home/app"]
USER 1000:1000
WORKDIR "/app"
COPY --chown=1000:1000 [".","/app/"]
RUN --mount=type=secret,id=variables,uid=1000,target=/run/moorage/build ["/bin/sh","-c","set -a && . /run/moorage/build && set +a && exec /bin/sh -c \"$0\"","mvn -B -q -DskipTests clean package"]
ENV NODE_ENV=production PYTHONUNBUFFERED=1 PORT=3000 HOST=0.0.0.0
ENTRYPOINT []
CMD ["/bin/sh","-c","exec java $JAVA_OPTS -Dserver.port=\"$PORT\" -jar \"$(ls -S target/*.jar | head -n 1)\""]
