using System.Collections.Concurrent;
using System.Text;

namespace Sessions.Bench.Load;

/// <summary>An answer of so many bytes of JSON, made once.</summary>
internal sealed class ReadyJson(byte[] json, int status) : IResult
{
    private static readonly ConcurrentDictionary<(int Bytes, int Status), ReadyJson> Made = new();

    public static ReadyJson Of(int bytes, int status = StatusCodes.Status200OK) => Made.GetOrAdd(
        (bytes, status), static answer => new(Encoding.ASCII.GetBytes($"\"{new string('b', answer.Bytes - 2)}\""), answer.Status));

    public Task ExecuteAsync(HttpContext httpContext)
    {
        var response = httpContext.Response;
        response.StatusCode = status;
        response.ContentType = "application/json; charset=utf-8";
        response.ContentLength = json.Length;
        return response.Body.WriteAsync(json, 0, json.Length, httpContext.RequestAborted);
    }
}
