"""The example client of the README does what the README says, as printed."""

import os
import pathlib
import re
import subprocess
import sys
import tempfile

from harness import BINARY, PATIENCE_S, ROOT, Server


def main():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    with Server() as server, tempfile.TemporaryDirectory() as folder:
        script = pathlib.Path(folder, "client.py")
        script.write_text(example.replace("127.0.0.1:7600", server.listen))
        token = subprocess.run([BINARY, "token", "--user", "alice"], stdout=subprocess.PIPE, text=True, check=True).stdout
        environment = {**os.environ, "TOKEN": token.strip(), "PYTHONUNBUFFERED": "1"}
        client = subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True)
        printed = ""
        for line in client.stdout:
            printed += line
            if '"sent"' in line:
                break
        client.kill()
        client.wait(PATIENCE_S)
    assert '"welcome"' in printed and '"re":"2","sent":{"seq":"1"' in printed, printed
    print(printed + "1 passed, 0 failed")


if __name__ == "__main__":
    main()
