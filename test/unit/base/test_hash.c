#include "scratch.h"

static void digest(char hex[65], const char *bytes, size_t n, size_t piece)
{
    cad_sha256 s;

    cad_sha256_begin(&s);
    for (size_t at = 0; at < n; at += piece) cad_sha256_add(&s, bytes + at, n - at < piece ? n - at : piece);
    cad_sha256_add(&s, "", 0);
    cad_sha256_end(&s, hex);
}

/* FIPS 180-4 examples; the million from NIST's test vectors. */
static void sha256_gives_the_published_digests(void **state)
{
    static const struct { const char *text, *hex; } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    char hex[65], *million;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        digest(hex, cases[i].text, strlen(cases[i].text), 1000);
        assert_string_equal(hex, cases[i].hex);
    }
    assert_int_equal(cad_alloc(&million, 1000000, 1, "a million"), CAD_OK);
    memset(million, 'a', 1000000);
    digest(hex, million, 1000000, 999);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    cad_free(&million);
}

static void sha256_does_not_depend_on_the_cut(void **state)
{
    char bytes[300], whole[65], cut[65];

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (char)(i * 7);
    for (size_t n = 0; n <= sizeof bytes; n += 13) {
        digest(whole, bytes, n, sizeof bytes);
        for (size_t piece = 1; piece < 130; piece++) {
            digest(cut, bytes, n, piece);
            assert_string_equal(cut, whole);
        }
    }
}

static void a_file_has_the_digest_of_its_bytes(void **state)
{
    char *bytes, whole[65], file[65];
    const size_t n = (1 << 20) + 77;

    (void)state;
    assert_int_equal(cad_alloc(&bytes, n, 1, "a file"), CAD_OK);
    for (size_t i = 0; i < n; i++) bytes[i] = (char)(i * i >> 3);
    put_file(in_scratch("f"), bytes, n);
    digest(whole, bytes, n, n);
    assert_int_equal(cad_sha256_file(in_scratch("f"), file, CAD_EMODEL), CAD_OK);
    assert_string_equal(file, whole);
    cad_free(&bytes);
    assert_int_equal(cad_sha256_file(in_scratch("none"), file, CAD_EMODEL), CAD_EMODEL);
    expect_reason("cannot open");
}

/* RFC 3720, appendix B.4, and the check value of the catalogue of CRCs. */
static void crc32c_gives_the_published_values(void **state)
{
    uint8_t bytes[32];

    (void)state;
    assert_int_equal(cad_crc32c(0, "", 0), 0);
    assert_int_equal(cad_crc32c(0, "123456789", 9), 0xe3069283);
    memset(bytes, 0, 32);
    assert_int_equal(cad_crc32c(0, bytes, 32), 0x8a9136aa);
    memset(bytes, 0xff, 32);
    assert_int_equal(cad_crc32c(0, bytes, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)i;
    assert_int_equal(cad_crc32c(0, bytes, 32), 0x46dd794e);
    for (size_t cut = 0; cut <= 32; cut++) assert_int_equal(cad_crc32c(cad_crc32c(0, bytes, cut), bytes + cut, 32 - cut), 0x46dd794e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(sha256_does_not_depend_on_the_cut),
        cmocka_unit_test(a_file_has_the_digest_of_its_bytes),
        cmocka_unit_test(crc32c_gives_the_published_values),
    };
    return cmocka_run_group_tests(tests, make_scratch, drop_scratch);
}
