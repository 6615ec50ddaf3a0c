'use strict';

// An ordinary order service. It knows nothing of idempotency.

const express = require('express');
const { setTimeout: sleep } = require('node:timers/promises');

const orders = new Map();
let lastId = 0;

const app = express();
app.use(express.json());

async function charge(order) {
  await sleep(5 + Math.random() * 20);
  return { ...order, charged: true };
}

app.get('/orders', (req, res) => {
  res.json([...orders.values()]);
});

app.get('/orders/:id', (req, res) => {
  const order = orders.get(Number(req.params.id));
  if (!order) return res.status(404).json({ error: 'no such order' });
  res.json(order);
});

app.post('/orders', async (req, res) => {
  const { item, quantity = 1 } = req.body ?? {};
  if (!item) return res.status(422).json({ error: 'item is missing' });
  const id = ++lastId;
  const order = await charge({ id, item, quantity, made: new Date().toISOString() });
  orders.set(id, order);
  res.cookie('last_order', String(id));
  res.location(`/orders/${id}`).status(201).json(order);
});

app.patch('/orders/:id', async (req, res) => {
  const order = orders.get(Number(req.params.id));
  if (!order) return res.status(404).json({ error: 'no such order' });
  await sleep(5);
  order.quantity += req.body.add ?? 0;
  order.changes = (order.changes ?? 0) + 1;
  res.json(order);
});

// Makes the order, and fails before it can say so.
app.post('/orders/crash', async (req, res) => {
  const id = ++lastId;
  orders.set(id, await charge({ id, item: 'crash' }));
  req.socket.destroy();
});

// Fails before it does anything.
app.post('/orders/busy', async () => {
  throw new Error('the stock is being counted');
});

// Takes its time. The order comes first.
app.post('/orders/slow', async (req, res) => {
  const id = ++lastId;
  orders.set(id, await charge({ id, item: 'slow' }));
  await sleep(Number(req.query.ms ?? 1000));
  res.status(201).json({ id });
});

const server = app.listen(process.env.PORT ?? 3000, '127.0.0.1', () => {
  console.log(`orders on port ${server.address().port}`);
});
