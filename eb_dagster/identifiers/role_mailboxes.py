"""Mailboxes that are a role's and nobody's own, such as `info@`."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Arrow is imported with the first table.
    from eb_dagster.identifiers.arrays import Array, Mask

# Where the words come from, and the words. Words that are also given names or surnames of some currency are
# left out, and so are the offices that one person holds (`ceo@`, `president@`).
ROLES: Final[tuple[tuple[str, frozenset[str]], ...]] = tuple(
    (source, frozenset(words.split()))
    for source, words in (
        (
            "RFC 2142, sections 3 to 7",
            "info marketing sales support abuse noc security postmaster hostmaster usenet news webmaster www uucp ftp"
            " list request",
        ),
        (
            "RFC 5321, section 4.5.1, and what mail systems send from",
            "mailerdaemon noreply donotreply bounce bounces mailer daemon root nobody automailer autoreply unsubscribe",
        ),
        (
            "the role accounts that Mailchimp will not import (its help page on role-based addresses), and what"
            " Google Workspace reserves",
            "admin administrator all billing compliance devnull dns everyone hostmaster inoc ispfeedback ispsupport"
            " legal listrequest maildaemon noc phish phishing privacy registrar remove spam ssl sysadmin tech undisclosed"
            " undisclosedrecipients ssladmin ssladministrator sslwebmaster",
        ),
        (
            "English, as firms' contact pages have them",
            "account accounting accounts ads advertising agent alerts apply ask assistance audit board booking bookings"
            " business care career careers client clients company concierge contact contacts contactus contracts crew"
            " customer customercare customers customerservice customersupport delivery desk dev developers digital"
            " dispatch ecommerce editor editorial education email employment engineering enquiries enquiry"
            " estimates events export facilities feedback finance frontdesk fulfillment gdpr general generalinfo hello help"
            " helpdesk hi hiring hr humanresources import inbox inquiries inquiry inquiry insurance intake internship"
            " investor investors invoice invoices invoicing it itsupport job jobs leads leasing licensing logistics mail"
            " main maintenance management manager media member members membership newsletter newsletters office"
            " officemanager onlineorders operations ops order orders partner partners partnership partnerships payable"
            " payables payment payments payroll people personnel pr press procurement production projects"
            " property publicrelations purchase purchasing quality quote quotes reception receptionist recruit recruiting"
            " recruitment referrals refunds registration rentals reply reservation reservations returns rfq safety"
            " schedule scheduling secretary service services shipping shop social socialmedia solutions staff"
            " stock store studio submissions subscribe subscriptions suggestions supplier suppliers talent team technical"
            " technicalsupport ticket tickets training travel vendor vendors volunteer warehouse warranty web website"
            " welcome wholesale workshop complaints admissions alumni library registrar sponsorship",
        ),
        (
            "German: Impressum pages (§ 5 DDG asks for an address on each)",
            "kontakt vertrieb verkauf einkauf buero büro rechnung rechnungen buchhaltung bewerbung bewerbungen personal"
            " karriere presse redaktion sekretariat zentrale verwaltung geschaeftsleitung geschäftsleitung geschaeftsfuehrung"
            " geschäftsführung datenschutz kundenservice kundendienst kundenbetreuung auftrag auftraege aufträge bestellung"
            " bestellungen anfrage anfragen angebot angebote empfang hallo werkstatt technik versand lager praxis kanzlei"
            " rezeption reservierung buchung ausbildung impressum poststelle post stadt gemeinde rathaus"
            " hausverwaltung disposition dispo planung logistik mahnung zahlung",
        ),
        (
            "French: mentions légales and contact pages",
            "accueil bonjour commercial commande commandes compta comptabilite comptabilité communication courrier"
            " direction facturation facture factures recrutement emploi rh presse secretariat secrétariat mairie"
            " standard sav serviceclient devis achats achat ventes vente boutique rgpd dpo relationclient administratif"
            " gestion cabinet candidature livraison contactez reservations",
        ),
        (
            "Spanish and Portuguese: aviso legal and contact pages",
            "contacto contato contatos ventas vendas administracion administración administracao administração"
            " administrativo informacion información informacao informes atencion atencionalcliente clientes cliente"
            " compras comercial facturacion facturación facturas faturamento financeiro financiero finanzas contabilidad"
            " contabilidade empleo empleos rrhh recursoshumanos rh prensa imprensa pedidos pedido recepcion recepción"
            " recepcao reservas hola oficina gerencia gerência soporte suporte atendimento sac cobranza cobranca"
            " secretaria direccion dirección diretoria tienda loja logistica logística marketing ouvidoria vagas curriculos"
            " comunicacion comunicacao proveedores fornecedores talento presupuestos orcamento consultas",
        ),
        (
            "Italian: contatti pages",
            "contatti amministrazione commerciale vendite acquisti ufficio segreteria direzione fatture fatturazione"
            " contabilita contabilità assistenza clienti ordini prenotazioni lavoro selezione personale stampa"
            " preventivi magazzino spedizioni produzione ufficiostampa informazioni ciao tecnico qualita negozio pec",
        ),
        (
            "Dutch and the languages of Scandinavia and Finland: contact pages",
            "verkoop inkoop administratie boekhouding klantenservice receptie vacatures sollicitatie pers bestellingen"
            " facturen planning secretariaat werkplaats winkel hallo"
            " kontor kontoret salg indkøb innkjøp regnskab regnskap faktura fakturor kundeservice kundtjanst kundtjänst"
            " forsaljning försäljning order ordre bestilling personale post postmottak reception myynti asiakaspalvelu"
            " laskutus toimisto rekry tilaukset ekonomi redaktion rekrytering butik",
        ),
        (
            "Polish, Czech, Slovak, Hungarian, Romanian: contact pages",
            "biuro sekretariat sprzedaz sprzedaż handlowy ksiegowosc księgowość faktury kadry praca rekrutacja"
            " zamowienia zamówienia sklep serwis obsluga obsługa recepcja rezerwacja rezerwacje kontakty kancelar kancelář"
            " obchod obchodni prodej nakup nákup fakturace uctarna účtárna podatelna recepce personalni"
            " objednavky predaj nakup uctovnictvo iroda ertekesites értékesítés penzugy pénzügy szamlazas ugyfelszolgalat"
            " ügyfélszolgálat rendeles titkarsag vanzari vânzări contabilitate comenzi secretariat cariere office",
        ),
        (
            "Turkish, Russian (also written in Latin letters), Greek, Indonesian: contact pages",
            "bilgi iletisim iletişim satis satış muhasebe destek insankaynaklari siparis sipariş rezervasyon"
            " инфо почта продажи отдел офис бухгалтерия закупки секретарь приемная кадры заказ pochta prodazhi buh"
            " buhgalter zakaz zakupki kadry priemnaya sekretar otdel ofis"
            " epikoinonia plirofories logistirio poliseis penjualan keuangan layanan",
        ),
        (
            "Japanese, Chinese and Korean firms, in Latin letters",
            "toiawase otoiawase eigyo eigyou saiyo saiyou soumu keiri kouhou koho jinji honsha webshop",
        ),
    )
)
_WORDS: Final = frozenset(word for _, words in ROLES for word in words)
# What may stand beside a role: a country or a language, a part of the world, a number.
_PLACES: Final = re.compile(
    r"[a-z]{2}|usa|emea|apac|latam|dach|benelux|mena|anz|global|world|intl|int|group|hq|[0-9]+"
)
_DIGITS: Final = "0123456789"
_BETWEEN_WORDS: Final = re.compile(r"[.\-_]+")


def is_role_mailbox(email: str) -> bool:
    """Whether a canonical e-mail address is a role's mailbox.

    `info+x@` is one, whoever the provider is, and so are `info2@`, `no-reply@`, `sales-uk@` and `press-office@`:
    each of their words is a role or says where. `sales.smith@` and `jane-sales@` are not: any other word may be
    a name.
    """
    local = email.rpartition("@")[0].partition("+")[0]
    if local.isalnum():
        # Nearly every other mailbox has several words.
        return _is_role(local)
    words = [word for word in _BETWEEN_WORDS.split(local) if word]
    if _is_role("".join(words)):
        return True
    other_words = [word for word in words if not _is_role(word)]
    return len(other_words) < len(words) and all(map(_PLACES.fullmatch, other_words))


def are_role_mailboxes(emails: Array) -> Mask:
    """The same for a column of addresses: only those in which some word is a role are looked at one by one."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    from eb_dagster.identifiers.arrays import flags_in, number_array, number_scalar, numbers_in, text_scalar

    local = pc.list_element(pc.split_pattern(emails, "@", max_splits=1), number_scalar(0))
    words = pc.split_pattern(pc.replace_substring(pc.replace_substring(local, "-", "."), "_", "."), ".")
    may_be_role = flags_in(
        pc.or_(pc.match_substring(local, "+"), _are_roles(pc.binary_join(words, text_scalar(""))))
    )
    may_be_role[numbers_in(pc.list_parent_indices(words))[flags_in(_are_roles(pc.list_flatten(words)))]] = (
        True
    )
    candidates = np.flatnonzero(may_be_role)
    addresses = emails.take(number_array(candidates, pa.int64())).to_pylist()
    is_role = np.zeros(len(emails), dtype=np.bool_)
    is_role[candidates] = [is_role_mailbox(address) for address in addresses]
    return is_role


def _are_roles(words: Array) -> Array:
    import pyarrow.compute as pc

    return pc.is_in(pc.ascii_rtrim(words, characters=_DIGITS), value_set=_roles())


@cache
def _roles() -> Array:
    from eb_dagster.identifiers.arrays import text_array

    return text_array(sorted(_WORDS))


def _is_role(word: str) -> bool:
    return word.rstrip(_DIGITS) in _WORDS
