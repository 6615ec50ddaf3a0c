// Makes customers with Stripe's own client, its network retries on, and says what it was told of each, a line each.

const Stripe = require("stripe");

const [port, count, mode] = process.argv.slice(2);

const stripe = new Stripe("sk_test_semel", {
  host: "127.0.0.1",
  port: Number(port),
  protocol: "http",
  maxNetworkRetries: 8,
  timeout: 1500,
  telemetry: false,
});

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

async function create(number) {
  try {
    const customer = await stripe.customers.create({ name: `customer ${number}` });
    const { headers } = customer.lastResponse;
    say({ number, id: customer.id, replayed: headers["idempotent-replayed"] ?? null });
  } catch (error) {
    say({ number, error: error.type, code: error.code ?? null, status: error.statusCode ?? null });
  }
}

// So many at once: each takes the next number until there is none.
async function all() {
  let next = 0;
  const work = async () => {
    while (next < Number(count)) await create(next++);
  };
  await Promise.all(Array.from({ length: 32 }, work));
}

// One key for two different customers.
async function reuse() {
  const idempotencyKey = "order-4711-c0ffee";
  const first = await stripe.customers.create({ name: "one" }, { idempotencyKey });
  say({ id: first.id });
  try {
    await stripe.customers.create({ name: "another" }, { idempotencyKey });
  } catch (error) {
    say({ error: error.type, status: error.statusCode, message: error.message });
  }
  const again = await stripe.customers.create({ name: "one" }, { idempotencyKey });
  say({ id: again.id, replayed: again.lastResponse.headers["idempotent-replayed"] ?? null });
}

// What may have happened is not tried again.
async function unknown() {
  try {
    await stripe.customers.create({ name: "lost" });
  } catch (error) {
    say({ error: error.type, code: error.code, status: error.statusCode });
  }
}

({ all, reuse, unknown })[mode]();
