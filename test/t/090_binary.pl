# Rows of DistilBatch reach a client in binary form as PostgreSQL itself sends them.
use strict;
use warnings;
use IO::Socket::UNIX;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

my $node = new_node('binary');
my $m = model_path('bert-sentence');
$node->safe_psql('postgres', <<SQL);
SELECT distil_import('m', '$m');
CREATE TABLE docs (id int, body text, stored real[], matrix real[]);
INSERT INTO docs SELECT i, CASE WHEN i % 7 <> 0 THEN 'doc ' || i || repeat(' and more', i % 5) END,
  CASE i % 5 WHEN 0 THEN '{}' WHEN 1 THEN '{1,NULL,-0.5}' WHEN 2 THEN '[3:4]={1e-30,NaN}' WHEN 3 THEN array_fill(i::real, '{5000}'::int[]) END,
  ARRAY[[i, 1], [2, 'Infinity'::real]]
  FROM generate_series(1, 60) i;
SQL

# The protocol, as far as it is needed here: messages of a type and a body.
my $client = IO::Socket::UNIX->new(Peer => $node->host . '/.s.PGSQL.' . $node->port) or die "no connection: $!";

sub send_message
{
	my ($type, $body) = @_;
	print $client $type . pack('N', 4 + length $body) . $body;
}

sub read_bytes
{
	my ($n) = @_;
	my $bytes = '';
	while (length $bytes < $n)
	{
		read($client, $bytes, $n - length $bytes, length $bytes) or die 'the server has gone';
	}
	return $bytes;
}

# All messages up to ReadyForQuery.
sub answer
{
	my @messages;
	while (1)
	{
		my ($type, $length) = unpack('aN', read_bytes(5));
		push @messages, [$type, read_bytes($length - 4)];
		return @messages if $type eq 'Z';
	}
}

# The messages a statement is answered with, its columns in these formats; rows at a time: 0 is all.
sub run
{
	my ($sql, $formats, $rows) = @_;
	send_message('P', "\0$sql\0" . pack('n', 0));
	send_message('B', "\0\0" . pack('nn', 0, 0) . pack('n*', scalar @$formats, @$formats));
	send_message('D', "P\0");
	send_message('E', "\0" . pack('N', $rows)) for 1 .. ($rows > 0 ? 3 : 1);
	send_message('S', '');
	$client->flush;
	return answer();
}

sub setting
{
	my ($sql) = @_;
	my @messages = run($sql, [], 0);
	die $sql if grep { $_->[0] eq 'E' } @messages;
}

send_message('', pack('N', 196608) . "user\0" . getpwuid($<) . "\0database\0postgres\0\0");
$client->flush;
die 'not let in' if grep { $_->[0] eq 'E' } answer();

# An embedding may have other low bits in another batch: numbers that are whole, but for one statement.
my $call = "array_fill(distil_token_count(body, 'm')::real, '{384}'::int[])";
my $embed = "SELECT id, distil_embed(body, 'm') FROM docs";
my @cases = (
	[$embed, [1]],
	["SELECT $call FROM docs", [1]],
	["SELECT $call FROM docs", [0]],
	["SELECT $call FROM docs", []],
	["SELECT id, body, stored, $call, matrix FROM docs", [1]],
	["SELECT id, body, stored, $call, matrix, stored FROM docs", [1, 0, 1, 1, 1, 0]],
	["SELECT id, $call, stored FROM docs ORDER BY id DESC LIMIT 20", [0, 1, 1]],
	["SELECT $call FROM docs WHERE distil_token_count(body, 'm') > 9", [1]],
	["SELECT stored FROM docs WHERE distil_token_count(body, 'm') > 4", [1]],
	["SELECT $call || 1::real, distil_token_ids(body, 'm') FROM docs", [1]],
	["SELECT $call FROM docs WHERE id < 0", [1]],
	["SELECT $call, 12 / (id - 40) FROM docs", [1]],
	["SELECT $call, id FROM docs", [1, 2]],
	# a type without a binary form, with and without rows
	["SELECT $call, (acldefault('r', 10))[1] FROM docs WHERE id < 0", [1]],
	["SELECT $call, (acldefault('r', 10))[1] FROM docs", [1]],
);
for my $case (@cases)
{
	my ($sql, $formats) = @$case;
	for my $rows (0, 7)
	{
		my %got;
		for my $batch ('off', 'on')
		{
			setting("SET distil.batch = $batch");
			$got{$batch} = join("\n", map { $_->[0] . ($sql eq $embed ? length $_->[1] : unpack('H*', $_->[1])) } run($sql, $formats, $rows));
		}
		ok($got{on} eq $got{off}, "$sql in formats (@$formats), $rows rows at a time");
		like($got{on}, $sql =~ /id < 0/ ? qr/^C/m : $sql =~ /acl|, id FROM/ ? qr/^E/m : qr/^D/m, '... with an answer');
	}
}

# Which statements it is that distil sends itself.
for my $case ([$embed, [1], 1], [$embed, [0, 1], 1], [$embed, [1, 0], 0], [$embed, [0], 0], ['SELECT stored FROM docs', [1], 0])
{
	my ($sql, $formats, $expected) = @$case;
	setting('SET client_min_messages = debug1');
	my $found = grep { $_->[0] eq 'N' && $_->[1] =~ /sent to the client by distil/ } run($sql, $formats, 0);
	is($found, $expected, "$sql in formats (@$formats) is " . ($expected ? '' : 'not ') . 'sent by distil');
}
close $client;
$node->stop;
done_testing();
