// Socket.IO with its Redis adapter: each device is in the room of its own name.
// Runs in the throw-away environment: PORT as argument, PEER_REDIS_URL in the environment.

import { createRequire } from "node:module";

// The packages lie in the throw-away environment, this file does not.
const require = createRequire(`${process.cwd()}/`);
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");

const publisher = createClient({ url: process.env.PEER_REDIS_URL });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const server = new Server({ adapter: createAdapter(publisher, subscriber), transports: ["websocket"] });
let acks = 0;

server.on("connection", (socket) => {
  socket.join(socket.handshake.auth.device);
  socket.on("ack", () => {
    acks += 1; // there is nothing to record it in
  });
});

server.listen(Number(process.argv[2]));
