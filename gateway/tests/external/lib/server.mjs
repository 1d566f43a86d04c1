// What the Node tests share: the packages under the target directory, a server under test, a development token.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

export const root = resolve(import.meta.dirname, '../../../..');
const target = process.env.CARGO_TARGET_DIR ?? join(root, 'target');
export const packages = createRequire(join(process.env.EXTERNAL_PACKAGES ?? join(target, 'external/node'), 'package.json'));

/** `ringpost serve --dev` in a process of its own, with a data directory that outlives a kill. */
export class Server {
  data = mkdtempSync(join(tmpdir(), 'ringpost-'));
  listen = '127.0.0.1:0';
  admin = '127.0.0.1:0';
  #process;

  /** Starts, or starts again on the same ports; resolves when the ready line was printed. */
  async start() {
    const args = ['serve', '--dev', '--listen', this.listen, '--admin', this.admin, '--data', this.data];
    args.push('--disk-floor', '1'); // no test is about how full this disk is
    const log = openSync(`${this.data}.log`, 'a');
    this.#process = spawn(join(target, 'ci/ringpost'), args, { stdio: ['ignore', 'pipe', log] });
    for await (const line of createInterface(this.#process.stdout)) {
      const ready = /^ready listen=(\S+) admin=(\S+)/.exec(line);
      assert(ready, `not a ready line: ${line}`);
      [, this.listen, this.admin] = ready;
      return this;
    }
    throw new Error(`the server did not start: ${readFileSync(`${this.data}.log`, 'utf8').slice(-2000)}`);
  }

  async kill9() {
    const gone = new Promise((resolve) => this.#process.once('exit', resolve));
    this.#process.kill('SIGKILL');
    await gone;
  }

  async end() {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await this.kill9();
    rmSync(this.data, { recursive: true, force: true });
    rmSync(`${this.data}.log`, { force: true });
  }

  async token(user, device) {
    const headers = { 'content-type': 'application/json' };
    const body = JSON.stringify({ user, device });
    const answer = await fetch(`http://${this.listen}/v1/dev/token`, { method: 'POST', headers, body });
    assert.equal(answer.status, 200);
    return (await answer.json()).token;
  }
}
