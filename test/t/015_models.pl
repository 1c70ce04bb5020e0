# Models within one transaction, and the large objects and files that belong to them.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('models');
my $path = model_path('bert-sentence');
my ($code, $out, $err);

# a model is there at once, whatever snapshot its function is folded or run under
my $import = "PERFORM distil_import('x', '$path')";
my $drop = "PERFORM distil_drop_model('x')";
is($node->psql('postgres', "DO \$\$ BEGIN $import; PERFORM distil_embed('a', 'x'); $drop; END \$\$"),
	0, 'a model imported in a DO block can be used there');
is($node->psql('postgres', "DO \$\$ BEGIN $import; EXECUTE 'SELECT distil_embed(\$1, ''x'')' USING 'b'; "
		. "EXECUTE 'SELECT distil_embed(''c'', ''x'')'; $drop; END \$\$"),
	0, 'and with EXECUTE');
$node->safe_psql('postgres', "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS \$\$ DECLARE v real[]; "
		. "BEGIN $import; v := distil_embed('d', 'x'); $drop; RETURN cardinality(v); END \$\$;"
		. "CREATE FUNCTION g(m text) RETURNS int LANGUAGE sql AS "
		. "\$\$ SELECT distil_import(m, '$path'); SELECT cardinality(distil_embed('e', m)) \$\$");
is($node->safe_psql('postgres', 'SELECT f() > 0'), 't', 'and in an assignment of a function');
is($node->safe_psql('postgres', "SELECT g('x') > 0; SELECT distil_drop_model('x')"), "t\n",
	'and in a function of two statements');
is($node->psql('postgres', "DO \$\$ BEGIN $import; PERFORM distil_embed('a', 'x'); $drop; END \$\$"),
	0, 'and where its mapped copy is there already');
for my $use ("PERFORM distil_embed('a', 'x')", "EXECUTE 'SELECT distil_embed(''a'', ''x'')'")
{
	($code, $out, $err) = quiet_psql($node, "DO \$\$ BEGIN $import; $use; $drop; $use; END \$\$");
	like($err, qr/model "x" does not exist/, 'a model dropped in the transaction is gone');
}
($code, $out, $err) = quiet_psql($node, "DO \$\$ BEGIN BEGIN $import; PERFORM 1 / (cardinality(distil_embed('a', 'x')) * 0); "
		. "EXCEPTION WHEN division_by_zero THEN NULL; END; PERFORM distil_embed('a', 'x'); END \$\$");
like($err, qr/model "x" does not exist/, 'so is one whose import was rolled back');

# distil_check() knows its own files from those of others
my $file = model_path('distilbert-mlm') . '/model.safetensors';
my $foreign = $node->safe_psql('postgres', "SELECT lo_import('$file')");
is($node->safe_psql('postgres', "SELECT data LIKE '%{\"__metadata__%distilbert.%' FROM pg_largeobject WHERE loid = $foreign AND pageno = 0"),
	't', 'a file of DistilBERT begins like a stored model');
is($node->safe_psql('postgres', 'SELECT * FROM distil_check()'), '', 'distil_check() leaves it alone');
$node->safe_psql('postgres', "SELECT lo_unlink($foreign); SELECT distil_import('y', '$path')");
my $copy = $node->safe_psql('postgres', "SELECT lo_from_bytea(0, lo_get(weights)) FROM distil.model");
is($node->safe_psql('postgres', 'SELECT fix FROM distil_check()'), "SELECT lo_unlink($copy)", 'distil_check() names weights without a model');
$node->safe_psql('postgres', "SELECT lo_unlink($copy)");

# a broken modules.json, which the server reads before the engine does
my $broken = PostgreSQL::Test::Utils::tempdir_short();
PostgreSQL::Test::Utils::append_to_file("$broken/modules.json", '[{"path": "1_Pooling"');
($code, $out, $err) = quiet_psql($node, "SELECT distil_import('z', '$broken')");
like($err, qr/ERROR:  file "modules.json" cannot be read: invalid input syntax for type json\nDETAIL:  The input string ended unexpectedly/,
	'a broken modules.json is named');

# exported files can be read by everyone
my $folder = PostgreSQL::Test::Utils::tempdir_short() . '/exported';
$node->safe_psql('postgres', "SELECT distil_export('y', '$folder')");
my @modes = map { sprintf('%03o', (stat "$folder/$_")[2] & 0777) } ('', 'config.json', '1_Pooling', '1_Pooling/config.json');
is("@modes", '755 644 755 644', 'exported files can be read by everyone');

done_testing();
