"""What a build's log tells of what Docker's builder prints."""

from moorage.engines.dockerd.attempt import Progress

PRINTED = """\
#0 building with "default" instance using docker driver

#1 [internal] load build definition from Dockerfile
#1 transferring dockerfile: 189B done
#1 DONE 0.0s

#2 [internal] load metadata for docker.io/library/node:22
#2 DONE 0.3s

#4 [made 1/3] FROM docker.io/library/node:22@sha256:00aa
#4 resolve docker.io/library/node:22@sha256:00aa done
#4 sha256:00aa 1.05MB / 48.49MB 0.2s
#4 extracting sha256:00aa 1.0s done
#4 DONE 2.0s

#5 [made 2/3] RUN npm ci
#5 CACHED

#6 [made 3/3] RUN npm run it
#6 0.385 one
#6 0.386 10%\r20%\r100%\r
#6 0.387 #7 ERROR: not an error, but output
#6 0.388
#6 ERROR: process "/bin/sh -c npm run it" did not complete successfully: exit code: 3
------
 > [made 3/3] RUN npm run it:
0.385 one
------
Dockerfile:3
--------------------
   3 | >>> RUN npm run it
--------------------
ERROR: failed to solve: process "/bin/sh -c npm run it" did not complete successfully: exit code: 3
"""


def test_log_has_steps_and_their_output_without_the_builders_noise() -> None:
    progress = Progress(lambda step: step)
    told = [line for printed in PRINTED.split("\n") for line in progress.read(printed)]
    assert told == [
        "FROM docker.io/library/node:22@sha256:00aa",
        "RUN npm ci",
        "(unchanged: kept)",
        "RUN npm run it",
        "one",
        "100%",
        "#7 ERROR: not an error, but output",
    ]
    assert (progress.failed_step, progress.exit_code) == ("RUN npm run it", 3)


def test_error_outside_of_steps_is_the_builders_own_word() -> None:
    progress = Progress(lambda step: step)
    progress.read("ERROR: failed to solve: failed to load LLB: network.host is not allowed")
    assert progress.error == "failed to load LLB: network.host is not allowed"
    assert (progress.failed_step, progress.exit_code) == ("", None)
