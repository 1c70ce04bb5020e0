# Texts in ten or more languages, the server's own messages as its catalogues translate them: every tokenizer takes all of
# them, its offsets lead back into the text, byte-level BPE writes the same text again, alone or in a batch.
use strict;
use warnings;
use Encode ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use FindBin;
use lib $FindBin::RealBin;
use DistilTest;

# Messages of each language, evenly from its catalogue.
my $count = $ENV{DISTIL_MESSAGES} // 300;

# Translations of a catalogue (gettext's .mo file), without its header; plural forms one by one.
sub translations
{
	my ($path) = @_;
	my $data = slurp_file($path);
	my $long = unpack('V', $data) == 0x950412de ? 'V' : 'N';
	my (undef, undef, $n, undef, $at) = unpack("${long}5", $data);
	my ($charset, @texts) = ('UTF-8');
	for my $i (0 .. $n - 1)
	{
		my ($length, $offset) = unpack("${long}2", substr($data, $at + 8 * $i, 8));
		my $text = substr($data, $offset, $length);
		$charset = $1 if $i == 0 && $text =~ /charset=([\w-]+)/;
		push @texts, grep { length } split(/\0/, Encode::decode($charset, $text)) if $i > 0;
	}
	return @texts;
}

my ($locales) = run_command([ 'pg_config', '--localedir' ]);
my ($version) = run_command([ 'pg_config', '--version' ]);
my ($major) = $version =~ /(\d+)/;
my @catalogues = glob("$locales/*/LC_MESSAGES/postgres-$major.mo");
plan skip_all => "the server's messages are not installed in ten languages ($locales)" if @catalogues < 10;

my $node = new_node('languages');
my $copy = $node->basedir . '/messages';
open(my $out, '>:encoding(UTF-8)', $copy) or die $!;
for my $path (@catalogues)
{
	my ($language) = $path =~ m{([^/]+)/LC_MESSAGES};
	my @texts = translations($path);
	for my $i (0 .. $count - 1)
	{
		my $text = $texts[ int($i * @texts / $count) ];
		$text =~ s/([\\\n\t\r])/{"\\" => "\\\\", "\n" => "\\n", "\t" => "\\t", "\r" => "\\r"}->{$1}/ge;
		print $out "$language\t$text\n";
	}
}
close $out;
$node->safe_psql('postgres', "CREATE TABLE messages (id serial, language text, body text)");
$node->safe_psql('postgres', "\\copy messages (language, body) FROM '$copy'");
is($node->safe_psql('postgres', 'SELECT count(DISTINCT language) >= 10, count(*) FROM messages'),
	't|' . $count * @catalogues, 'messages in ten languages');

# One model for each tokenizer, in one head's files: WordPiece, Unigram, byte-level BPE of two kinds.
my %kind = (bert => 'token', albert => 'token', roberta => 'token', gpt2 => 'lm');
for my $arch (sort keys %kind)
{
	my $path = model_path("heads-$arch");
	$node->safe_psql('postgres', qq{
		SELECT jsonb_object_agg(name, lo_from_bytea(0, pg_read_binary_file('$path/' || file))::bigint) AS objects
			FROM (VALUES ('config.json', '$kind{$arch}.config.json'), ('model.safetensors.index.json', '$kind{$arch}.index.json'),
				('backbone.safetensors', 'backbone.safetensors'), ('token.safetensors', 'token.safetensors'),
				('tokenizer.json', 'tokenizer.json'), ('tokenizer_config.json', 'tokenizer_config.json')) f (name, file)
			WHERE file <> 'token.safetensors' OR '$kind{$arch}' = 'token' \\gset
		SELECT distil_import_objects('$arch', :'objects')});
}

# What a slice of a text is after the normalizer of BERT or ALBERT; soft hyphens and the like are dropped by both.
$node->safe_psql('postgres', q{
	CREATE FUNCTION plain(slice text) RETURNS text LANGUAGE sql IMMUTABLE AS
		$$ SELECT lower(regexp_replace(normalize(slice, NFKD), '[\u0300-\u036f\u00ad\u200b-\u200f]', '', 'g')) $$;
	CREATE FUNCTION alone(body text, model text) RETURNS int[] LANGUAGE plpgsql AS
		$$ BEGIN RETURN distil_token_ids(body, model); END $$;
	CREATE TABLE tokens AS SELECT m.id AS message, model, t.*, substring(body, start_pos + 1, end_pos - start_pos) AS slice, length(body) AS length
		FROM messages m, unnest(ARRAY['bert', 'albert', 'roberta', 'gpt2']) model, distil_tokenize(body, model) t});

is($node->safe_psql('postgres', q{
	SELECT model, count(DISTINCT message), bool_and(0 <= start_pos AND start_pos <= end_pos AND end_pos <= length) FROM tokens
		GROUP BY model ORDER BY model COLLATE "C"}),
	join("\n", map { "$_|" . $count * @catalogues . '|t' } sort keys %kind), 'offsets lie in their texts');
is($node->safe_psql('postgres', q{
	SELECT token, slice FROM tokens WHERE model = 'bert' AND token NOT IN ('[CLS]', '[SEP]')
		AND CASE token WHEN '[UNK]' THEN slice = '' OR slice ~ '\s' ELSE plain(slice) <> regexp_replace(token, '^##', '') END LIMIT 5}),
	'', 'a WordPiece token is its slice, normalised');
is($node->safe_psql('postgres', q{
	SELECT token, slice FROM tokens WHERE model = 'albert' AND token NOT IN ('[CLS]', '[SEP]')
		AND CASE token WHEN '<unk>' THEN slice = '' OR slice ~ '\s' ELSE plain(slice) <> ltrim(token, '▁') AND token <> '▁'
			-- one character may become several tokens, as the three dots of an ellipsis
			AND NOT (length(slice) = 1 AND position(ltrim(token, '▁') IN plain(slice)) > 0) END LIMIT 5}),
	'', 'a Unigram token is its slice, normalised');
is($node->safe_psql('postgres', q{
	SELECT model, token, slice FROM tokens, distil_decode(ARRAY[id], model) d WHERE model IN ('gpt2', 'roberta') AND token NOT IN ('<s>', '</s>')
		AND position(U&'\FFFD' IN d) = 0 AND d <> slice AND NOT (model = 'roberta' AND ltrim(d) = slice) LIMIT 5}),
	'', 'a token of byte-level BPE is its slice');
is($node->safe_psql('postgres', q{
	SELECT message FROM (SELECT *, lag(end_pos) OVER w AS before, lead(start_pos) OVER w AS after FROM tokens WHERE model = 'gpt2'
			WINDOW w AS (PARTITION BY message ORDER BY token_no)) t
		WHERE start_pos > coalesce(before, 0) OR after IS NULL AND end_pos <> length LIMIT 5}),
	'', 'its slices leave nothing out');
is($node->safe_psql('postgres', q{
	SELECT model, m.id FROM messages m, unnest(ARRAY['gpt2', 'roberta']) model WHERE distil_decode(distil_token_ids(body, model), model) <> body LIMIT 5}),
	'', 'its ids give the text again');
is($node->safe_psql('postgres', q{
	SELECT model, id FROM (SELECT id, body, model, distil_token_ids(body, model) AS ids, distil_token_count(body, model) AS n
			FROM messages, unnest(ARRAY['bert', 'albert', 'roberta', 'gpt2']) model) t
		WHERE ids <> alone(body, model) OR n <> cardinality(ids) LIMIT 5}),
	'', 'the same ids alone and in a batch');
is($node->safe_psql('postgres', q{
	SELECT model, m.id FROM messages m, unnest(ARRAY['bert', 'albert', 'roberta', 'gpt2']) model, distil_chunk(body, model, 16, 4) c
		WHERE chunk <> substring(body, start_pos + 1, end_pos - start_pos) OR tokens > 16 LIMIT 5}),
	'', 'chunks are slices and no longer than asked');
is($node->safe_psql('postgres', q{
	CREATE FUNCTION embed_alone(body text) RETURNS real[] LANGUAGE plpgsql AS $$ BEGIN RETURN distil_embed(body, 'albert'); END $$;
	SELECT id FROM (SELECT id, body, distil_embed(body, 'albert') AS e FROM messages WHERE id % 10 = 0) t WHERE e <> embed_alone(body) LIMIT 5}),
	'', 'the same vectors alone and in a batch');
$node->stop;
done_testing();
