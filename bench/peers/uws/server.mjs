// Echo and rooms on uWebSockets.js: `node server.mjs PORT` prints `ready listen=ADDRESS` when it serves.
//
// No compression, no idle timeout, no pings of its own. All connections of a thread share the library's receive and cork
// buffers, so an idle one has none. A room is a topic of the library's own publish-subscribe, which leaves out the sender and
// joins what one turn of the loop publishes to a member into one write. The listening backlog is the library's own, 512.
//
// The native module is loaded by its own name: the package's entry would quietly fall back to ws where it cannot be loaded.
import { createRequire } from "node:module";

const native = `uws_${process.platform}_${process.arch}_${process.versions.modules}.node`;
const uWS = createRequire(import.meta.url)(`@trufflesuite/uws-js-unofficial/binaries/${native}`);

const settings = {
  compression: uWS.DISABLED,
  maxPayloadLength: 1 << 20,
  idleTimeout: 0,
  maxLifetime: 0,
  sendPingsAutomatically: false,
  // A member that does not read is cut when this much waits for it.
  maxBackpressure: 1 << 20,
  closeOnBackpressureLimit: true,
};

const app = uWS.App();
app.ws("/echo", { ...settings, message: (socket, message, isBinary) => socket.send(message, isBinary) });
app.ws("/room/:name", {
  ...settings,
  upgrade(response, request, context) {
    response.upgrade(
      { room: request.getParameter(0) },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context,
    );
  },
  open: (socket) => socket.subscribe(socket.getUserData().room),
  message: (socket, message, isBinary) => socket.publish(socket.getUserData().room, message, isBinary),
});
app.listen("127.0.0.1", Number(process.argv[2] ?? 0), (listening) => {
  if (!listening) {
    console.error(`cannot listen on port ${process.argv[2]}`);
    process.exit(1);
  }
  console.log(`ready listen=127.0.0.1:${uWS.us_socket_local_port(listening)}`);
});
process.on("SIGTERM", () => process.exit(0));
