// JSON schemas of ordinary types as zod writes them, one JSON object a line. See README.md.

import { z } from "zod";

const person = z.object({ name: z.string().min(1), age: z.number().int().min(0).max(150) });
const types = {
  person,
  loose: z.looseObject({ a: z.string() }),
  contact: z.object({ email: z.email(), site: z.url(), id: z.uuid(), phone: z.e164().optional() }),
  times: z.object({ at: z.iso.datetime(), day: z.iso.date(), clock: z.iso.time(), took: z.iso.duration() }),
  record: z.record(z.string(), z.number()),
  record_of_names: z.record(z.enum(["a", "b"]), z.boolean()),
  partial_record: z.partialRecord(z.enum(["a", "b"]), z.boolean()),
  shapes: z.discriminatedUnion("kind", [
    z.object({ kind: z.literal("circle"), radius: z.number().positive() }),
    z.object({ kind: z.literal("square"), side: z.number().positive() }),
  ]),
  list: z.array(person).min(1).max(5),
  tuple: z.tuple([z.string(), z.number(), z.boolean()]),
  literals: z.union([z.literal("a"), z.literal(7), z.literal(true), z.null()]),
  nullable: z.object({ note: z.string().nullable(), more: z.string().optional() }),
  password: z.string().regex(/^(?=.*[A-Z])(?=.*\d)[A-Za-z\d]{8,20}$/),
  slug: z.string().regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/),
  hosts: z.object({ v4: z.ipv4(), v6: z.ipv6(), net: z.cidrv4(), token: z.base64url(), id: z.nanoid() }),
  numbers: z.object({ safe: z.int(), int32: z.int32(), step: z.number().multipleOf(0.25), any: z.number() }),
  both: z.intersection(z.object({ a: z.string() }), z.object({ b: z.number() })),
  tree: z.object({ value: z.string(), get left() { return z.nullable(types.tree); } }),
};
for (const [name, type] of Object.entries(types)) {
  console.log(JSON.stringify({ from: "zod", name, schema: z.toJSONSchema(type) }));
}
