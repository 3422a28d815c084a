using System.Text;
using System.Text.Json;

namespace Sessions.Tests.Api;

/// <summary>Times that something took, as answers show them.</summary>
public sealed class ApiSecondsTests
{
    [Theory]
    [InlineData(0, "0")]
    [InlineData(1, "0.000001")]
    [InlineData(12, "0.000012")]
    [InlineData(120_000, "0.12")]
    [InlineData(1_000_000, "1")]
    [InlineData(1_500_000, "1.5")]
    [InlineData(600_000_001, "600.000001")]
    [InlineData(-2_500_000, "-2.5")]
    [InlineData(long.MaxValue / TimeSpan.TicksPerMicrosecond, "922337203685.47758")]
    [InlineData(long.MinValue / TimeSpan.TicksPerMicrosecond, "-922337203685.47758")]
    public void Seconds_have_no_exponent_and_no_digits_that_say_nothing(long microseconds, string expected)
    {
        using var stream = new MemoryStream();
        using (var json = new Utf8JsonWriter(stream))
        {
            new ApiSeconds(TimeSpan.FromTicks(microseconds * TimeSpan.TicksPerMicrosecond)).WriteTo(json);
        }

        Assert.Equal(expected, Encoding.UTF8.GetString(stream.ToArray()));
    }

    [Theory]
    [InlineData("0.034143", 34_143)]
    [InlineData("2.164E-03", 2164)]
    [InlineData("1.2E-05", 12)]
    [InlineData("600.000001", 600_000_001)]
    [InlineData("-2.5", -2_500_000)]
    public void Seconds_are_read_as_they_were_written_also_with_an_exponent(string text, long microseconds) =>
        Assert.Equal(TimeSpan.FromMicroseconds(microseconds), JsonSerializer.Deserialize<ApiSeconds>(text).Value);

    [Theory]
    [InlineData("1e300")]
    [InlineData("-1e400")]
    public void A_time_beyond_all_times_is_not_read(string text) =>
        Assert.Throws<JsonException>(() => JsonSerializer.Deserialize<ApiSeconds>(text));

    [Theory]
    [InlineData("/sessions/a")]
    [InlineData("/sessions/a/history")]
    [InlineData("/users/ada/sessions")]
    [InlineData("/users/ada/usage")]
    [InlineData("/users/ada/export")]
    public async Task Whatever_tells_how_long_a_turn_took_tells_it_so(string path)
    {
        var cancel = TestContext.Current.CancellationToken;
        await using var server = SessionsServer.Start([]);
        var log = server.Get<SessionLog>();
        var request = new BeginRequest
        {
            Session = SessionRef.ById("a"),
            Owner = Owner.Claiming("ada"),
            HistoryTurns = 0,
            HistoryBytes = 0,
            Wait = TimeSpan.Zero,
            MinLifetime = TimeSpan.Zero,
        };
        await using (var begun = await log.BeginAsync(request, cancel))
        {
            var turn = TestLog.NewTurn(TestLog.Text("q"), TestLog.Text("r")) with
            {
                CreatedAt = server.Time.GetUtcNow(),
                ExecutionTime = TimeSpan.FromMicroseconds(12),
            };
            Assert.NotNull(await log.CommitAsync(begun, turn, summary: null, cancel));
        }

        Assert.Contains("execution_time\":0.000012", (await server.GetAsync(path)).Text, StringComparison.Ordinal);
    }
}
