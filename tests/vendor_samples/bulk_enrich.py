"""The vendor's Python sample. Only the address is not the vendor's."""

import json
import os

import requests

url = os.environ["EXACTBUYER_BASE_URL"] + "/v1/bulk-enrich"

headers = {"X-API-Key": "YOUR_API_KEY"}
data = {
    "query_list": json.dumps(
        [
            {"field_type": "social_profile", "value": "linkedin.com/in/edankrolewicz"},
            {"field_type": "phone", "value": "+1-773-474-9362"},
            {"field_type": "email", "value": "edan@exactbuyer.com"},
        ]
    ),
    "required_fields": json.dumps([{"field_type": "email"}]),
}

response = requests.post(url, headers=headers, data=data)

print(response.text)
