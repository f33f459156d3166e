"""Every command that README and docs/ show is executed: as a reader would type it, page by page, from top to bottom.

How a page is written
---------------------

A command is in a block of language `console`. Each command begins with `$ `, and continues after a backslash at a
line's end. All other lines are its output, up to the next command. If none is shown, nothing is compared.

    ```console
    $ archiver files --night 2025-07-27
    ...
    crate1slot2 ...
    ...
    $ archiver status
    ...
    $ echo $?
    1
    ```

- **Output** is compared as a whole, but loosely: numbers, times, sizes, durations and digests may differ, and so may
  spaces and empty lines. A line `...` stands for any lines, `...` within a line for anything.
- **An exit code** is expected to be 0. If it isn't, the page says so, by `echo $?` as the next command.
- **A command that only looks** (`archiver status`, `files`, `curl`, `ls`, …; `_LOOKS` in run.py) is repeated until it
  shows what the page shows, at most two minutes: so a page needs no `sleep`.
- **A command that runs until it is stopped** (`ingest`, `archiver run`, `web`, …; `_RUNS_ON` in run.py) runs on in
  the background, once its log says that it is ready, until the page's end, where SIGTERM must end it in order. Shown
  output is how its log begins. A last output line `^C` stops it there; `kill $!` and `kill -9 $!` end what was
  started last.
- **Python**: a block of language `python` is a program of its own; a block of language `text` right after it is what
  it prints. One with `follow=True` or `while True` runs on in the background. One that imports so3g or sotodlib is
  run by the environment that has these (testbed/sotodlib_venv.py).
- **A file**: a block of language toml, ini, yaml, properties, conf or sql whose first line is a comment with nothing
  but a file's name (`# streams.toml`, `# /etc/g3/client.properties`) is written to that file.
- In .rst, `.. code-block:: console`, and the same for the rest.

In which world it runs
----------------------

Each page has an empty directory and one shell, so `cd` and `export` last. `ingest`, `archiver` and `python` are on
PATH. KAFKA_BOOTSTRAP_SERVERS is set, and HOME is a scratch directory. The directories in `DIRECTORIES` of site.py
(`/data`, …) are below a scratch directory: commands, programs and files get its path, and in what is printed it is
taken away again.

A page that uses sqlite3, curl or jq is skipped where that isn't installed.

A page has a network of its own (a namespace, for which root is needed; else these tests are skipped). So it can use
the ports that it shows, 9092 or 8780, and nothing of this machine is reached; nor is the Internet.

What is there before the page's first command is its set-up: `SET_UPS` in setups.py. A page that isn't there has
EMPTY, a broker of its own with nothing on it. Pages with the same *shared* set-up have its broker and files together,
so they must not disturb each other. A broker costs 4 s of CPU time: use a shared set-up where you can.

What can't be executed here
---------------------------

A command that needs Docker, systemd, another site or the Internet is in the table of elsewhere.py, with the test that
executes it. That this test exists, and has the command's words in its source, is tested. A command that is not in the
table is executed here. (An entry may be for a program in Python, too, by its first line.)

Commands in other blocks (indented, or ``` without a language) aren't executed, so they are found and refused.

One page: `.venv/bin/python -m pytest tests/docs -k find.md`
"""
