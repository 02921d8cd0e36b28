// The vendor's JavaScript sample. Only the address is not the vendor's.
var myHeaders = new Headers();
myHeaders.append("X-API-Key", "YOUR_API_KEY");

var formdata = new FormData();
formdata.append("query_list", JSON.stringify([
  { field_type: "social_profile", value: "linkedin.com/in/edankrolewicz" },
  { field_type: "phone", value: "+1-773-474-9362" },
  { field_type: "email", value: "edan@exactbuyer.com" },
]));
formdata.append("required_fields", JSON.stringify([{ field_type: "email" }]));

var requestOptions = {
  method: "POST",
  headers: myHeaders,
  body: formdata,
  redirect: "follow",
};

fetch(process.env.EXACTBUYER_BASE_URL + "/v1/bulk-enrich", requestOptions)
  .then(response => response.text())
  .then(result => console.log(result))
  .catch(error => console.log("error", error));
