// Echo and rooms on ws: `node server.mjs PORT` prints `ready listen=ADDRESS` when it serves.
//
// No compression, no idle timeout. The library keeps no buffers for an idle connection beyond the objects of its receiver and
// sender and those of node's socket; TCP_NODELAY is set by it.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

// A member that does not read is cut when this much waits for it.
const MOST_WAITING = 1 << 20;

const rooms = new Map();
const server = createServer((request, response) => response.writeHead(404).end());
const upgrader = new WebSocketServer({ noServer: true, perMessageDeflate: false, clientTracking: false, maxPayload: 1 << 20 });

server.on("upgrade", (request, socket, head) => {
  const path = request.url;
  if (path !== "/echo" && !path.startsWith("/room/")) {
    socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
    return;
  }
  upgrader.handleUpgrade(request, socket, head, (connection) => {
    connection.on("error", () => {}); // what follows is a close
    if (path === "/echo") {
      connection.on("message", (data, binary) => send(connection, data, binary));
    } else {
      join(connection, path.slice("/room/".length));
    }
  });
});

function join(connection, name) {
  let room = rooms.get(name);
  if (!room) {
    rooms.set(name, (room = new Set()));
  }
  room.add(connection);
  connection.on("message", (data, binary) => {
    for (const member of room) {
      if (member !== connection) {
        send(member, data, binary);
      }
    }
  });
  connection.on("close", () => {
    room.delete(connection);
    if (room.size === 0) {
      rooms.delete(name);
    }
  });
}

function send(connection, data, binary) {
  if (connection.bufferedAmount > MOST_WAITING) {
    connection.terminate();
  } else {
    connection.send(data, { binary });
  }
}

server.listen({ host: "127.0.0.1", port: Number(process.argv[2] ?? 0), backlog: 4096 }, () => {
  console.log(`ready listen=127.0.0.1:${server.address().port}`);
});
process.on("SIGTERM", () => process.exit(0));
