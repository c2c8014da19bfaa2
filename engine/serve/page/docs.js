// Shows the OpenAPI document: what each address takes and gives.

import { getJson } from "./api.js";

const byId = (id) => document.getElementById(id);

function make(name, content, ...children) {
  const node = document.createElement(name);
  node.append(...(content === undefined ? [] : [content]), ...children);
  return node;
}

function typeOf(schema, components) {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => typeOf(one, components)).filter((type) => type !== "null").join(" or ");
  if (schema.type === "array") return schema.prefixItems ? `[${schema.prefixItems.map((one) => typeOf(one, components)).join(", ")}]` : `list of ${typeOf(schema.items, components)}`;
  if (schema.type === "object" && schema.additionalProperties?.type) return `object of ${typeOf(schema.additionalProperties, components)}`;
  return schema.format === "binary" ? "file" : schema.type ?? "any";
}

function table(rows) {
  const body = rows.map((cells) => make("tr", undefined, ...cells.map((cell, at) => make(at ? "td" : "th", cell))));
  return make("table", undefined, make("tbody", undefined, ...body));
}

function parameters(operation, components) {
  const rows = (operation.parameters ?? []).map(({ name, schema, description }) => [name, typeOf(schema, components), description ?? schema.description ?? ""]);
  return rows.length ? [make("h4", "Parameters"), table(rows)] : [];
}

function answers(operation, components) {
  return Object.entries(operation.responses).map(([status, response]) => {
    const kinds = Object.keys(response.content ?? {}).join(", ");
    const schema = Object.values(response.content ?? {}).map((content) => content.schema).find(Boolean);
    return [status, response.description, [kinds, typeOf(schema, components)].filter(Boolean).join(": ")];
  });
}

function show({ paths, components }) {
  const nodes = [];
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      const title = make("h3", Object.assign(make("span", method.toUpperCase()), { className: "method" }), path);
      nodes.push(title, make("p", operation.summary ?? ""), ...(operation.description ? [make("p", operation.description)] : []));
      nodes.push(...parameters(operation, components));
      if (operation.requestBody) nodes.push(make("h4", "Body"), table(Object.entries(operation.requestBody.content ?? {}).map(([kind, { schema }]) => [kind, schema?.properties ? Object.keys(schema.properties).join(", ") : typeOf(schema, components)])));
      nodes.push(make("h4", "Answers"), table(answers(operation, components)));
    }
  }
  for (const [name, schema] of Object.entries(components?.schemas ?? {})) {
    if (!schema.properties || name.endsWith("Error")) continue;
    nodes.push(make("h3", name), make("p", schema.description ?? ""));
    nodes.push(table(Object.entries(schema.properties).map(([field, one]) => [field, typeOf(one, components), one.description ?? ""])));
  }
  byId("operations").replaceChildren(...nodes);
}

byId("example").textContent = `curl --data-binary @photo.jpg -H "Authorization: Bearer $CROWD_TOKEN" '${new URL("v1/count?zone=gate=0%25,50%25+50%25,50%25+50%25,100%25", location.href)}'`;
getJson("openapi.json").then(show, (error) => byId("operations").replaceChildren(error.message));
