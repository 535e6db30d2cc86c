"""prometheus-api-client of PyPI against the server whose URL is given."""

import sys
from datetime import datetime, timedelta

from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

client = PrometheusConnect(url=sys.argv[1])
assert client.check_prometheus_connection()
assert "pushed" in client.all_metrics()
assert sorted(client.get_label_values("a")) == ["1", "2"]
values = {r["metric"]["a"]: r["value"][1] for r in client.get_current_metric_value("pushed", {"job": "clients"})}
assert values == {"1": "1.5", "2": "2.5"}, values
total = client.custom_query("sum(pushed{job='clients'})")
assert total[0]["value"][1] == "4", total
end = datetime.now() + timedelta(seconds=60)
points = client.custom_query_range("vector(1)", end - timedelta(seconds=60), end, "15s")[0]["values"]
assert [value for _, value in points] == ["1"] * 5, points
series = client.get_metric_range_data("pushed", {"job": "clients"}, end - timedelta(minutes=5), end)
assert len(series) == 2 and not MetricRangeDataFrame(series).empty
assert client.get_series(end - timedelta(minutes=5), end, params={"match[]": "pushed"}) if hasattr(client, "get_series") else True
