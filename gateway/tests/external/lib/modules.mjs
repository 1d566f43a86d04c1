// Modules of the chat page, for Node.

import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './server.mjs';

/** All that these files of gateway/web export, in one object. */
export async function pageModules(...files) {
  // Browsers take the files for modules because the page says so; here a package has to.
  const place = await mkdtemp(join(tmpdir(), 'ringpost-page-'));
  await cp(join(root, 'gateway/web'), place, { recursive: true });
  await writeFile(join(place, 'package.json'), '{"type": "module"}');
  const modules = await Promise.all(files.map((file) => import(pathToFileURL(join(place, file)))));
  await rm(place, { recursive: true });
  return Object.assign({}, ...modules);
}
