#!/bin/sh
# The vendor's cURL sample. Only the address is not the vendor's.
curl --location --request POST "$EXACTBUYER_BASE_URL/v1/bulk-enrich" \
--header 'X-API-Key: YOUR_API_KEY' \
--form 'query_list="[{\"field_type\": \"social_profile\", \"value\": \"linkedin.com/in/edankrolewicz\"}, {\"field_type\": \"phone\", \"value\": \"+1-773-474-9362\"}, {\"field_type\": \"email\", \"value\": \"edan@exactbuyer.com\"}]"' \
--form 'required_fields="[{\"field_type\": \"email\"}]"'
