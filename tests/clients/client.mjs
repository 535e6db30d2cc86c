// prometheus-query of npm against the server whose URL is given.
import assert from "node:assert/strict";
import { PrometheusDriver } from "prometheus-query";

const client = new PrometheusDriver({ endpoint: process.argv[2], baseURL: "/api/v1" });
const now = Date.now();

const instant = await client.instantQuery("sort(pushed{job='clients'})");
assert.equal(instant.resultType, "vector");
assert.deepEqual(instant.result.map((series) => series.value.value), [1.5, 2.5]);

const range = await client.rangeQuery("vector(2)", now - 60000, now, 15);
assert.deepEqual(range.result[0].values.map((point) => point.value), [2, 2, 2, 2, 2]);

const series = await client.series('pushed{job="clients"}', now - 300000, now + 300000);
assert.deepEqual(series.map((one) => one.labels.a).sort(), ["1", "2"]);
assert.deepEqual((await client.labelValues("a")).sort(), ["1", "2"]);
assert.ok((await client.labelNames()).includes("job"));

const targets = await client.targets();
assert.equal(targets.activeTargets[0].labels.job, "self");
assert.deepEqual(await client.rules(), []);
assert.deepEqual(await client.alerts(), []);
assert.equal((await client.status()).yaml.includes("scrape_interval"), true);
await assert.rejects(client.instantQuery("up("), (error) => error.prometheus.errorType === "bad_data");
