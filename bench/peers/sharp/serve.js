// Resizes the image of a folder that is asked for, over HTTP: `/NAME?w=N` fits it into N x N, as a JPEG of quality 80.
// What a backend with sharp does, and no more: no signature, no limit, nothing kept.
import sharp from 'sharp';
import { createServer } from 'node:http';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { port: { type: 'string' }, folder: { type: 'string' } } });

sharp.cache(false);
// A thread per image, images beside each other: the most images a second.
sharp.concurrency(1);

createServer(async ({ url }, response) => {
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  const side = Number(searchParams.get('w'));
  try {
    const image = sharp(join(values.folder, basename(pathname))).rotate().resize(side, side, { fit: 'inside' });
    const body = await image.jpeg({ quality: 80 }).toBuffer();
    response.writeHead(200, { 'content-type': 'image/jpeg', 'content-length': body.length }).end(body);
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(values.port), '127.0.0.1', () => console.log('ready'));
