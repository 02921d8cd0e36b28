"""The vendor's Python sample in a loop, with what a user adds to it."""

import json
import sys

import pandas as pd
import requests

url, leads_file, enriched_file = sys.argv[1:]
leads = pd.read_parquet(leads_file)["email"].tolist()
frames = []
for start in range(0, len(leads), 1000):
    data = {
        "query_list": json.dumps(
            [{"field_type": "email", "value": value} for value in leads[start : start + 1000]]
        ),
        "required_fields": json.dumps([]),
    }
    response = requests.post(url + "/v1/bulk-enrich", headers={"X-API-Key": "YOUR_API_KEY"}, data=data)
    frames.append(pd.json_normalize(response.json(), "contacts"))
table = pd.concat(frames, ignore_index=True)
# A size is sometimes a number and sometimes a text, for which Parquet has no column.
for name in [name for name, kind in table.dtypes.items() if pd.api.types.is_object_dtype(kind)]:
    table[name] = table[name].map(lambda value: None if value is None else json.dumps(value))
table.to_parquet(enriched_file)
