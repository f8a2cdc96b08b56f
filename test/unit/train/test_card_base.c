#include "../base/scratch.h"

#include <unistd.h>

#include "../../../src/train/keep_priv.h"

static void expect_name(const char *of, const char *want, bool known)
{
    cad_str name = {0};
    bool is;

    assert_int_equal(cadp_public_name(of, &name, &is), CAD_OK);
    assert_string_equal(name.data, want);
    assert_int_equal(is, known);
    cad_str_close(&name);
}

static void a_base_is_named_without_the_folders_of_this_machine(void **state)
{
    (void)state;
    expect_name("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", true);
    expect_name("gpt2", "gpt2", true);
    expect_name("/data/hub/models--meta-llama--Llama-3.2-1B/snapshots/0123abcd", "meta-llama/Llama-3.2-1B", true);
    expect_name("/data/hub/models--meta-llama--Llama-3.2-1B/snapshots/0123abcd/", "meta-llama/Llama-3.2-1B", true);
    expect_name("models--gpt2/snapshots/0123abcd", "gpt2", true);
    expect_name("/home/someone/my models/Scout/", "Scout", false);
    expect_name("/home/someone/other-models--a--b/snapshots/c", "c", false);
    assert_int_equal(chdir(scratch_dir), 0);
    assert_int_equal(cad_mkdirs("org/here"), CAD_OK);
    expect_name("org/here", "here", false);
    put_file("some.gguf", "", 0);
    expect_name("some.gguf", "some.gguf", false);
}

static void expect_licence(const char *card, const char *want)
{
    cad_str lines = {0};

    assert_int_equal(chdir(scratch_dir), 0);
    assert_int_equal(cad_mkdirs("base"), CAD_OK);
    put_file("base/README.md", card, strlen(card));
    assert_int_equal(cadp_base_licence("base", &lines), CAD_OK);
    assert_string_equal(lines.size ? lines.data : "", want);
    assert_string_equal(cad_reason(), "");
    cad_str_close(&lines);
}

static void the_licence_is_that_of_the_bases_own_card(void **state)
{
    cad_str lines = {0};

    (void)state;
    assert_int_equal(cadp_base_licence("nowhere", &lines), CAD_OK);
    assert_int_equal(lines.size, 0);
    expect_licence("---\nlanguage:\n- en\nlicense: apache-2.0\n---\n# A model\nlicense: none\n", "license: \"apache-2.0\"\n");
    expect_licence("---\nlicense: other\nlicense_name: a \"b\"\nlicense_link: LICENSE\n---\n", "license: \"other\"\nlicense_name: \"a \\\"b\\\"\"\nlicense_link: \"LICENSE\"\n");
    expect_licence("---\n---\n", "");
    expect_licence("---\nlicense: [a\n---\n", "");
    expect_licence("---\nlicense: mit\n", "");
    expect_licence("# license: mit\n", "");
    expect_licence("", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_base_is_named_without_the_folders_of_this_machine, make_scratch, drop_scratch),
        cmocka_unit_test_setup_teardown(the_licence_is_that_of_the_bases_own_card, make_scratch, drop_scratch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
