namespace Sessions.Tests.Storage;

/// <summary>Sessions of one user, some of which somebody damages, as a server meets them that has not seen them before.</summary>
internal static class DamagedSessions
{
    /// <summary>One that stays whole (<c>good</c>), and others, each with four turns.</summary>
    /// <returns>The ids of the others.</returns>
    public static async Task<string[]> FillAsync(Func<SessionsServer> start, int count)
    {
        await using var server = start();
        string[] ids = [.. Enumerable.Range(0, count).Select(i => $"bad{i}")];
        foreach (var id in (string[])["good", .. ids])
        {
            foreach (var text in (string[])["one", "two", "three", "four"])
            {
                await server.QueryAsync(text, id, "ada");
            }
        }

        return ids;
    }

    /// <summary>
    /// A user with two sessions at the most makes room for new ones; the oldest can't be read, and stays for whoever may mend it.
    /// </summary>
    /// <param name="start">Starts a server with these settings more.</param>
    /// <param name="damage">Damages the session of that id.</param>
    /// <param name="isKnown">Whether the server has met the damage before it makes room.</param>
    /// <param name="mayList">Whether lists go past that damage.</param>
    public static async Task MakesNoRoomAsync(
        Func<(string Key, string Value), SessionsServer> start, Action<string> damage, bool isKnown, bool mayList = true)
    {
        // Where the clock stands still, the least recently active one is that with the lowest id.
        var limit = ("sessions:max_sessions_per_user", "2");
        await using (var server = start(limit))
        {
            await server.QueryAsync("one", "bad", "bob");
            await server.QueryAsync("one", "c", "bob");
        }

        damage("bad");
        await using (var server = start(limit))
        {
            if (isKnown)
            {
                (await server.GetAsync("/sessions/bad")).IsProblem(503, "storage_damaged");
            }

            foreach (var id in (string[])["d", "e"])
            {
                await server.QueryAsync("one", id, "bob");
            }

            Assert.Equal(201, (await server.PostAsync("/sessions", new { session_id = "f", user_id = "bob" })).Status);
            (await server.GetAsync("/sessions/bad")).IsProblem(503, "storage_damaged");
            if (mayList)
            {
                var list = (await server.GetAsync("/users/bob/sessions")).Json["sessions"]!.AsArray();
                Assert.Equal(["f", "e"], list.Select(session => (string)session!["session_id"]!));
            }

            Assert.Equal(200, (await server.GetAsync("/sessions/e")).Status);
            (await server.GetAsync("/sessions/d")).IsProblem(404, "session_not_found");
            Assert.Equal(200, (await server.DeleteAsync("/sessions/bad")).Status);
            (await server.GetAsync("/sessions/bad")).IsProblem(404, "session_not_found");
        }
    }

    /// <summary>The same of responses, which make room by their bytes.</summary>
    /// <param name="start">Starts a server with these settings more.</param>
    /// <param name="damage">Damages the only session there is.</param>
    public static async Task ChainMakesNoRoomAsync(Func<(string Key, string Value), SessionsServer> start, Func<Task> damage)
    {
        var limit = ("limits:responses_bytes_per_user", "10000");
        string bad;
        await using (var server = start(limit))
        {
            bad = await RespondAsync(server);
        }

        await damage();
        await using (var server = start(limit))
        {
            server.Time.Advance(TimeSpan.FromSeconds(1));
            List<string> others = [];
            for (var i = 0; i < 8; i++)
            {
                others.Add(await RespondAsync(server));
            }

            Assert.Equal(503, (await server.GetAsync($"/v1/responses/{bad}?user_id=ada")).Status);
            Assert.Equal(404, (await server.GetAsync($"/v1/responses/{others[0]}?user_id=ada")).Status);
            Assert.Equal(200, (await server.GetAsync($"/v1/responses/{others[^1]}?user_id=ada")).Status);
        }

        static async Task<string> RespondAsync(SessionsServer server)
        {
            // Each later than the one before: the oldest go.
            server.Time.Advance(TimeSpan.FromSeconds(1));
            var answer = await server.PostAsync("/v1/responses?user_id=ada", new { model = "advanced", input = new string('x', 1500) });
            Assert.True(answer.Status == 200, answer.Text);
            return (string)answer.Json["id"]!;
        }
    }

    /// <summary>Appends a fifth turn.</summary>
    public static Task<Answer> PostTurnAsync(SessionsServer server, string id) => server.PostAsync($"/sessions/{id}/turns", new
    {
        input = new[] { new { role = "user", content = "five" } },
        output = new[] { new { role = "assistant", content = "good day" } },
        user_id = "ada",
    });

    /// <summary>Waits until the store is told to be well, or not, whatever else is.</summary>
    public static Task StoreIsAsync(SessionsServer server, string status) => ServiceProcess.UntilAsync(async () =>
        (string?)(await server.GetAsync("/health")).Json["checks"]!["store"]!["status"] == status);
}
