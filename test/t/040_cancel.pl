# Cancel and statement_timeout are answered in the middle of the work, and the session goes on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep time);
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('cancel');
my $path = model_path('bert-sentence');
$node->safe_psql('postgres', "SELECT distil_import('m', '$path')");
$node->safe_psql('postgres', "CREATE TABLE docs AS SELECT i AS id, repeat('many words to read again ', 40) || i AS body FROM generate_series(1, 20000) i");

my ($code, $out, $err) = quiet_psql($node,
	"SET statement_timeout = '200ms'; SELECT count(distil_embed(body)) FROM docs; SET statement_timeout = 0; SELECT cardinality(distil_embed('x')) > 0",
	on_error_stop => 0);
like($err, qr/statement timeout/, 'statement_timeout stops an aggregate over embeddings');
is($out, 't', 'the session goes on');
($code, $out, $err) = quiet_psql($node,
	"SET statement_timeout = '200ms'; CREATE TABLE x AS SELECT distil_embed(body) FROM docs", on_error_stop => 0);
like($err, qr/statement timeout/, 'statement_timeout stops a batch');
($code, $out, $err) = quiet_psql($node,
	"SET statement_timeout = '200ms'; SELECT count(*) FROM distil_embed_many((SELECT array_agg(body) FROM docs))", on_error_stop => 0);
like($err, qr/statement timeout/, 'statement_timeout stops distil_embed_many');
($code, $out, $err) = quiet_psql($node,
	"SET statement_timeout = '200ms'; SELECT distil_token_count((SELECT string_agg(body, ' ') FROM docs, generate_series(1, 10)))", on_error_stop => 0);
like($err, qr/statement timeout/, 'statement_timeout stops a tokenizer on a huge text');

# Cancels at random points: each ends the query, none the session, memory does not grow.
my $session = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $session->query('SELECT pg_backend_pid()');
my $rss = sub { open(my $f, '<', "/proc/$pid/statm") or return 0; my @v = split ' ', <$f>; return ($v[1] - $v[2]) * 4; };
my $before = 0;
my $cancels = $ENV{DISTIL_CANCELS} // 30;
my $cancelled = 0;
for my $i (1 .. $cancels)
{
	$session->query_until(qr/go/, "\\echo go\nCREATE TEMP TABLE y AS SELECT distil_embed(body) FROM docs;\n");
	usleep(20_000 + int(rand(100_000)));
	$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
	$session->query('SELECT 1');
	$cancelled++ if $node->safe_psql('postgres', "SELECT state FROM pg_stat_activity WHERE pid = $pid") eq 'idle';
	$before = $rss->() if $i == 5;
}
is($cancelled, $cancels, 'cancels at random points leave the session usable');
my $after = $rss->();
cmp_ok($after - $before, '<', 8192, "private memory does not grow by cancels ($before kB, then $after kB)");
$session->quit;

done_testing();
