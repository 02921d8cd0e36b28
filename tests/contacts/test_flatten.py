from eb_dagster.contacts.flatten import flatten
from tests.contacts.readings import read


def test_a_contact_does_not_print_the_person():
    contact = read({
        "full_name": "Canary", "emails": ["canary@x.example"], "phone_numbers": ["+canary"],
        "social_profiles": ["canary.example"], "canary@x.example": 1, "gender": ["canary"],
    })  # fmt: skip
    assert "canary" not in repr(contact).lower()
    assert "canary" not in repr(flatten([contact])).lower()
